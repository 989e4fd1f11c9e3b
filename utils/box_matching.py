"""Match the detections of one image to its objects, for pictures: which objects are found, which detections are right.

As COCO's protocol at IoU 0.5 (pycocotools), but for one image and with nothing to accumulate.

Shapes: N objects and M detections of one image.
"""

from dataclasses import dataclass

import torch
from torchvision.ops import box_convert, box_iou

MATCH_IOU = 0.5


@dataclass(frozen=True)
class Matched:
    """Objects (`found`: bool (N,)) and detections (`right`: bool (M,)) of one image, matched to each other."""

    truth: list[dict]
    found: list[bool]
    detections: list[dict]
    right: list[bool]

    @property
    def score(self) -> int:
        """Objects found minus false alarms."""
        return sum(self.found) - self.right.count(False)


def match(truth: list[dict], detections: list[dict]) -> Matched:
    """Match the detections of one image, best first, each to the free object of its class with the largest IoU.

    As in COCO's protocol, crowds need not be found, and a detection that lies in a crowd of its class is no false
    alarm: neither is part of the result.

    Args:
        truth, detections: COCO dicts with "bbox" and "category_id"; detections with "score".
    """
    crowds = [item for item in truth if item.get("iscrowd")]
    truth = [item for item in truth if not item.get("iscrowd")]
    detections = sorted(detections, key=lambda item: -item["score"])
    found, right = [False] * len(truth), [False] * len(detections)
    if truth and detections:
        overlaps = box_iou(_boxes_xyxy(detections), _boxes_xyxy(truth)).tolist()
        for i, (item, row) in enumerate(zip(detections, overlaps)):
            free = [j for j, t in enumerate(truth) if not found[j] and t["category_id"] == item["category_id"]]
            best = max(free, key=lambda j: row[j], default=None)
            if best is not None and row[best] >= MATCH_IOU:
                found[best] = right[i] = True
    counted = [i for i, item in enumerate(detections) if right[i] or not any(_lies_in(item, c) for c in crowds)]
    return Matched(truth, found, [detections[i] for i in counted], [right[i] for i in counted])


def _lies_in(item: dict, crowd: dict) -> bool:
    (x1, y1, x2, y2), (left, top, right, bottom) = _boxes_xyxy([item, crowd]).tolist()
    shared = max(min(x2, right) - max(x1, left), 0) * max(min(y2, bottom) - max(y1, top), 0)
    return item["category_id"] == crowd["category_id"] and shared >= MATCH_IOU * (x2 - x1) * (y2 - y1)


def _boxes_xyxy(items: list[dict]) -> torch.Tensor:
    return box_convert(torch.tensor([item["bbox"] for item in items], dtype=torch.float64), "xywh", "xyxy")
