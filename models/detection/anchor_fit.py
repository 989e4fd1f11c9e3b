"""How many boxes of a data set fit an anchor, and which `anchor_scale` fits most.

A box "owns" an anchor whose IoU with it is IOU_THRESHOLD or more (anchor_targets.py). Among the anchors of one level
and shape, the one with the nearest centre overlaps a box most. So only levels x 9 anchors are
compared per box, with the same result.

Shapes: M boxes; boxes are xyxy pixels of the letterboxed input.
"""

import torch

from models.detection.anchors import NUM_ANCHORS, level_sizes, make_anchors
from models.detection.heads.anchor_targets import IOU_THRESHOLD

SCALES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
WORTH = 0.01  # share of the boxes by which another scale must be better to be recommended


def anchor_shares(
    boxes_xyxy: torch.Tensor, image_size: tuple[int, int], num_levels: int, scales: tuple[float, ...] = SCALES
) -> dict[float, float]:
    """Return the share of the boxes that own an anchor, by anchor scale.

    Args:
        boxes_xyxy: (M, 4) float32, M at least 1.
        image_size: (height, width) of the input.
        num_levels: pyramid levels, from P3 up.
        scales: to try.
    """
    owned = {s: best_ious(boxes_xyxy, image_size, num_levels, s) >= IOU_THRESHOLD for s in scales}
    return {scale: own.double().mean().item() for scale, own in owned.items()}


def better_scale(shares: dict[float, float], present: float) -> float | None:
    """Return the scale with the highest share where it is WORTH more than the `present` one's, else None."""
    best = max(shares, key=shares.get)
    return best if shares[best] - shares[present] >= WORTH else None


def best_ious(
    boxes_xyxy: torch.Tensor, image_size: tuple[int, int], num_levels: int, anchor_scale: float
) -> torch.Tensor:
    """Return each box's highest IoU with any anchor, (M,)."""
    anchors = make_anchors(image_size, num_levels, anchor_scale)
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    best, first = boxes_xyxy.new_zeros(len(boxes_xyxy)), 0
    for rows, columns in level_sizes(image_size, num_levels):
        column = (centres[:, 0] * columns / image_size[1]).long().clamp(0, columns - 1)
        row = (centres[:, 1] * rows / image_size[0]).long().clamp(0, rows - 1)
        nearest = first + (row * columns + column) * NUM_ANCHORS
        for shape in range(NUM_ANCHORS):
            best = torch.maximum(best, _iou(boxes_xyxy, anchors[nearest + shape]))
        first += rows * columns * NUM_ANCHORS
    return best


def _iou(boxes_xyxy: torch.Tensor, others_xyxy: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each box with the other box of its row, (M,); its rounding is that of torchvision's box_iou."""
    inside = torch.minimum(boxes_xyxy[:, 2:], others_xyxy[:, 2:]) - torch.maximum(boxes_xyxy[:, :2], others_xyxy[:, :2])
    overlap = inside.clamp(min=0).prod(dim=1)
    areas = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (boxes_xyxy, others_xyxy))
    return overlap / (sum(areas) - overlap)
