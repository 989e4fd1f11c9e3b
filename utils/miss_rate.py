"""Log-average miss rate, the usual number for pedestrian detectors, from the matches that pycocotools made.

Dollar, Wojek, Schiele and Perona, "Pedestrian Detection: An Evaluation of the State of the Art" (PAMI 2012): the miss
rate is averaged, in logarithms, at nine rates of false positives per image (FPPI), evenly spaced in log space from 0.01
to 1. Differs from the paper in that all heights and occlusions count (no "reasonable" subset), that of the ignored
regions only crowd flags are known, that an overlap of exactly 0.5 is a match, and that only the 100 best detections of
an image count.

Shapes: T IoU thresholds of the evaluation, the first of them 0.5; D detections and G true boxes of one image.
"""

from typing import Any

import numpy as np

PEOPLE = ("person", "people", "pedestrian")
FPPI = np.logspace(-2, 0, 9) * (1 + 1e-9)  # a rate exactly at a point is at it, however that was rounded
LOWEST = 1e-10  # miss rates below count as this, since the logarithm of 0 has no value


def log_average_miss_rate(images: list[dict[str, Any] | None], num_images: int) -> float | None:
    """Average the miss rate of one class geometrically over nine rates of false positives per image.

    The rate at a point is that of the lowest score threshold with no more false positives per image; it is 1 where any
    detection would be too many, and where the curve ends before, its last. Detections of equal score go together.

    Args:
        images: entries of `COCOeval.evalImgs` of one class at area "all": "dtScores" (D), "dtMatches" and "dtIgnore"
            (T, D), "gtIgnore" (G); None for an image with neither boxes nor detections.
        num_images: images evaluated, those without boxes included.
    Returns:
        The rate, 1e-10 (nothing missed) to 1; None where there is nobody to find. Ignored (crowd) boxes are nobody, and
        a detection matched to one is neither right nor wrong.
    """
    entries = [entry for entry in images if entry is not None]
    num_people = sum(np.count_nonzero(np.logical_not(entry["gtIgnore"])) for entry in entries)
    if num_people == 0:
        return None
    fppi, miss = _curve(entries, num_images, num_people)
    at_points = miss[np.searchsorted(fppi, FPPI, side="right") - 1]
    return float(np.exp(np.mean(np.log(np.maximum(at_points, LOWEST)))))


def _curve(entries: list[dict], num_images: int, num_people: int) -> tuple[np.ndarray, np.ndarray]:
    """Give false positives per image and miss rate at each score threshold, from accepting nothing downwards."""
    counted = ~np.concatenate([entry["dtIgnore"][0] for entry in entries])
    scores = np.concatenate([entry["dtScores"] for entry in entries])[counted]
    hits = np.concatenate([entry["dtMatches"][0] for entry in entries])[counted] > 0
    order = np.argsort(-scores)
    scores, hits = scores[order], hits[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each run of equal scores
    fppi = np.cumsum(~hits)[last] / num_images
    miss = 1 - np.cumsum(hits)[last] / num_people
    return np.append(0.0, fppi), np.append(1.0, miss)
