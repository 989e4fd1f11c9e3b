"""Match the detections of one image to its objects, for pictures: which objects are found, which detections are right.

As COCO's protocol at IoU 0.5 (pycocotools), but for one image and with nothing to accumulate.

Shapes: N objects and M detections of one image.
"""

from dataclasses import dataclass

from pycocotools.mask import iou

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
    detections, crowd = sorted(detections, key=lambda item: -item["score"]), [bool(t.get("iscrowd")) for t in truth]
    boxes, true_boxes = ([item["bbox"] for item in items] for items in (detections, truth))
    overlaps = iou(boxes, true_boxes, crowd) if truth and detections else [()] * len(detections)
    found, counted = [False] * len(truth), []
    for item, row in zip(detections, overlaps):
        near = [j for j, t in enumerate(truth) if t["category_id"] == item["category_id"] and row[j] >= MATCH_IOU]
        free = [j for j in near if not crowd[j] and not found[j]]
        if free:
            found[max(free, key=row.__getitem__)] = True
        if free or not any(crowd[j] for j in near):
            counted.append((item, bool(free)))
    objects = [(item, is_found) for item, is_found, in_crowd in zip(truth, found, crowd) if not in_crowd]
    return Matched([t for t, _ in objects], [f for _, f in objects], [d for d, _ in counted], [r for _, r in counted])
