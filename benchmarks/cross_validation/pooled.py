"""AP over the pairs of all folds at once, and a paired bootstrap over blocks of neighbouring frames.

The boxes of a pair are found by the networks of the one fold that tests on it, so scores of several networks are sorted
together. A resample draws blocks with replacement; a pair that is drawn n times counts n times. Images are matched
once, by pycocotools, and each resample weighs their detections and objects, which gives COCO's AP of the images
repeated (tests compare the two).

Shapes: N images, D detections of a class in all images, T IoU thresholds, R recalls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.folds import make_blocks
from utils.coco_eval import Scoring
from utils.run_folder import read_json

RESAMPLES, SEED = 2000, 0
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassMatches:
    """The detections of a class, best first.

    Args:
        images: (D,) place of the image.
        hits: at each of T thresholds, the places of the detections that match an object.
        counted: (T, D) whether a detection counts: not if it matches a crowd.
        objects: (N,) objects to find in each image.
    """

    images: np.ndarray
    hits: list[np.ndarray]
    counted: np.ndarray
    objects: np.ndarray

    @classmethod
    def of(cls, entries: list[dict | None], num_images: int) -> "ClassMatches | None":
        """Read the entries of `COCOeval.evalImgs` of a class, one for each image; None if there is nothing to find."""
        found = [(place, entry) for place, entry in enumerate(entries) if entry is not None]
        objects = np.zeros(num_images)
        for place, entry in found:
            objects[place] = np.count_nonzero(np.logical_not(entry["gtIgnore"]))
        if not objects.any():
            return None
        scores = np.concatenate([entry["dtScores"] for _, entry in found])
        order = np.argsort(-scores, kind="stable")  # as pycocotools, so that equal scores keep their order
        images = np.concatenate([np.full(len(entry["dtScores"]), place) for place, entry in found])
        matches, ignored = (np.concatenate([e[name] for _, e in found], axis=1) for name in ("dtMatches", "dtIgnore"))
        counted = ~ignored.astype(bool)[:, order]
        hits = [np.flatnonzero(row) for row in (matches > 0)[:, order] & counted]
        return cls(images[order], hits, counted, objects)

    def precision(self, weights: np.ndarray) -> float | None:
        """Return the mean precision over thresholds and recalls, if image n counts `weights[n]` times."""
        wanted = float(self.objects @ weights)
        if wanted == 0:
            return None
        weight = weights[self.images]
        found = [np.cumsum(weight[hits]) for hits in self.hits]
        seen = [np.cumsum(weight * counted)[hits] for hits, counted in zip(self.hits, self.counted)]
        return float(np.mean([_interpolated(f / wanted, f / np.maximum(s, 1)) for f, s in zip(found, seen)]))


def _interpolated(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the highest precision at or behind each of 101 recalls, 0 where it is not reached."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(recall, RECALLS, side="left")]


@dataclass(frozen=True)
class Pooled:
    """The matches of a method in all folds, by class."""

    classes: list[ClassMatches]

    def score(self, weights: np.ndarray) -> float:
        """Return AP, the mean over the classes of which there is something to find."""
        found = [value for matches in self.classes if (value := matches.precision(weights)) is not None]
        return float(np.mean(found)) if found else 0.0


@dataclass(frozen=True)
class Truth:
    """The objects of all folds: a COCO dict, whose image ids are in the order of `file_names`."""

    ground_truth: dict
    image_ids: list[str | int]
    file_names: list[str]
    category_ids: list[int]
    classes: list[str]
    folds: int

    @classmethod
    def read(cls, out: Path, folds: int) -> "Truth | None":
        """Read what the folds have written; None if one is missing."""
        files = [out / "truth" / f"fold{number}.json" for number in range(1, folds + 1)]
        if not all(map(Path.exists, files)):
            return None
        parts = [read_json(file) for file in files]
        truths = [part["ground_truth"] for part in parts]
        merged = {name: [item for truth in truths for item in truth[name]] for name in ("images", "annotations")}
        merged["annotations"] = [item | {"id": n} for n, item in enumerate(merged["annotations"], 1)]
        pairs = sorted(pair for part in parts for pair in zip(part["image_ids"], part["file_names"], strict=True))
        ids, names = map(list, zip(*pairs))  # in the order of pycocotools, where scores are equal
        return cls(truths[0] | merged, ids, names, parts[0]["category_ids"], parts[0]["classes"], folds)

    def pool(self, out: Path, method: str) -> Pooled | None:
        """Match the detections of a method; None if those of a fold are missing."""
        files = [out / "detections" / method / f"fold{number}.json" for number in range(1, self.folds + 1)]
        if not all(map(Path.exists, files)):
            return None
        detections = [item for file in files for item in read_json(file, list)]
        scoring = Scoring(self.ground_truth, detections, self.image_ids, self.category_ids, self.classes)
        entries = scoring.matches(self.image_ids)
        classes = [ClassMatches.of(found, len(self.image_ids)) for found in entries.values()]
        return Pooled([matches for matches in classes if matches is not None])

    def resamples(self, count: int) -> np.ndarray:
        """Draw blocks of neighbouring frames; returns how often each image is drawn, (count, N)."""
        blocks = make_blocks(self.file_names, self.folds)
        place = {name: number for number, name in enumerate(self.file_names)}
        members = np.zeros((len(blocks), len(place)))
        for number, block in enumerate(blocks):
            members[number, [place[name] for name in block]] = 1
        draws = np.random.default_rng(SEED).integers(0, len(blocks), (count, len(blocks)))
        return np.stack([np.bincount(draw, minlength=len(blocks)) for draw in draws]) @ members


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values."""
    low, high = np.percentile(values, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)
