"""What the annotations of one list hold, in numbers: images, boxes by class, image sizes, how large the boxes are.

Shapes: M boxes of a list.
"""

from collections import Counter
from typing import Any

import numpy as np
import torch

from datasets.detection.dataset import DetectionRecord
from datasets.detection.detection_data import DetectionData

PERCENTILES = (5, 50, 95)
AREAS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # COCO's, original pixels


def list_statistics(data: DetectionData, origin: str) -> dict[str, Any]:
    """Count what one list holds.

    Args:
        origin: a key of `data.records`.
    Returns:
        Plain values: "images" of the annotations, "pairs" of which both files are there, "boxes" (crowds too) and
        "classes" {name: boxes}; "images_without_boxes"; the reader's other notes ("clipped", "crowd", "empty",
        "dropped_NAME"); "sizes" {"WxH": pairs}, the most frequent first; "box_px" as `box_sizes`.
    """
    notes = {name: count for name, count in data.notes[origin].items() if name not in ("layout", "images", "boxes")}
    truth, records = data.ground_truth[origin], data.records[origin]
    boxes = Counter(item["category_id"] for item in truth["annotations"])
    with_boxes = {item["image_id"] for item in truth["annotations"]}
    counts = {"images": len(truth["images"]), "pairs": len(records), "boxes": len(truth["annotations"])}
    counts["classes"] = {name: boxes[i] for name, i in zip(data.classes, data.category_ids)}
    counts["images_without_boxes"] = len(truth["images"]) - len(with_boxes)
    sizes = dict(Counter(f"{r.width}x{r.height}" for r in records).most_common())
    box_px = box_sizes(np.concatenate([r.boxes_xyxy for r in records] or [np.zeros((0, 4))]))
    return counts | {"clipped": 0, "crowd": 0, "empty": 0} | notes | {"sizes": sizes, "box_px": box_px}


def box_sizes(boxes_xyxy: np.ndarray) -> dict[str, Any]:
    """Describe how large boxes (M, 4) are.

    Returns:
        "width", "height" and "sqrt_area": pixels at the PERCENTILES; "small", "medium", "large": boxes. {} for none.
    """
    if len(boxes_xyxy) == 0:
        return {}
    width, height = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).astype(np.float64).T
    area = width * height
    sides = {"width": width, "height": height, "sqrt_area": np.sqrt(area)}
    rows = {name: np.percentile(side, PERCENTILES).round(1).tolist() for name, side in sides.items()}
    counts = {name: int(((low <= area) & (area < high)).sum()) for name, (low, high) in AREAS.items()}
    return rows | counts


def letterboxed_boxes(records: list[DetectionRecord], image_size: tuple[int, int]) -> torch.Tensor:
    """Return the boxes of all records, (M, 4) float32, in pixels of the letterboxed input of `image_size` (H, W)."""
    height, width = image_size
    boxes = [torch.tensor(r.boxes_xyxy) * min(height / r.height, width / r.width) for r in records]
    return torch.cat([torch.zeros(0, 4), *boxes])
