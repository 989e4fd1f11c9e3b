"""Which anchor learns which box: the training targets of the detector.

RetinaNet (Lin et al. 2017), section 4.1, as EfficientDet uses it: positive from IoU 0.5 on, everything else background
(no ignore band), and each box also owns its best anchor, whatever the IoU. torchvision's Matcher with low-quality
matches differs: it gives a box all anchors that tie, and gives a forced anchor to its best box, not to the forcing one.
Shapes: B images, N anchors, M boxes of an image.
"""

from typing import NamedTuple

import torch
from torchvision.ops import box_convert, box_iou

IOU_THRESHOLD = 0.5
BOXES_AT_ONCE = 32  # bounds the memory of the IoU table: 32 x N, whatever the number of boxes


class Targets(NamedTuple):
    """`classes`: (B, N) int64, -1 for background. `box_deltas`: (B, N, 4) float32 in ty, tx, th, tw, 0 for background.

    `num_positives`: float32 scalar, the anchors of the whole batch that own a box.
    """

    classes: torch.Tensor
    box_deltas: torch.Tensor
    num_positives: torch.Tensor


def assign_targets(anchors_xyxy: torch.Tensor, boxes_xyxy: list[torch.Tensor], labels: list[torch.Tensor]) -> Targets:
    """Assign the boxes of a batch to anchors and encode them.

    Args:
        anchors_xyxy: (N, 4) float32 pixels.
        boxes_xyxy: per image (M, 4) float32 pixels with x1 < x2 and y1 < y2, M may be 0; on the anchors' device.
        labels: per image (M,) int64 class channels.

    Returns:
        The targets of the batch.
    """
    images = [_assign_image(anchors_xyxy, *image) for image in zip(boxes_xyxy, labels)]
    classes = torch.stack([classes for classes, _ in images])
    box_deltas = torch.stack([box_deltas for _, box_deltas in images])
    return Targets(classes, box_deltas, (classes >= 0).sum().float())


def encode_boxes(boxes_xyxy: torch.Tensor, anchors_xyxy: torch.Tensor) -> torch.Tensor:
    """Express boxes (N, 4) by anchors (N, 4): (N, 4) of ty, tx (centre shift / anchor side) and th, tw (log ratio)."""
    box_x, box_y, box_w, box_h = box_convert(boxes_xyxy, "xyxy", "cxcywh").unbind(-1)
    x, y, w, h = box_convert(anchors_xyxy, "xyxy", "cxcywh").unbind(-1)
    return torch.stack([(box_y - y) / h, (box_x - x) / w, (box_h / h).log(), (box_w / w).log()], dim=-1)


def match_anchors(anchors_xyxy: torch.Tensor, boxes_xyxy: torch.Tensor) -> torch.Tensor:
    """Find the box that each anchor owns.

    Args:
        anchors_xyxy: (N, 4).
        boxes_xyxy: (M, 4), M at least 1.

    Returns:
        (N,) int64 box index, -1 for background. On ties the lowest index wins, for boxes and for anchors.
    """
    owned = anchors_xyxy.new_full((len(anchors_xyxy),), -1, dtype=torch.int64)
    best_iou = anchors_xyxy.new_zeros(len(anchors_xyxy))
    best_anchors = []
    for start in range(0, len(boxes_xyxy), BOXES_AT_ONCE):
        iou = box_iou(boxes_xyxy[start : start + BOXES_AT_ONCE], anchors_xyxy)
        anchor_iou, box = iou.max(dim=0)
        owned = torch.where(anchor_iou > best_iou, box + start, owned)
        best_iou = torch.maximum(anchor_iou, best_iou)
        best_anchors.append(iou.argmax(dim=1))
    owned[best_iou < IOU_THRESHOLD] = -1
    forced = torch.cat(best_anchors)
    # Boxes with one best anchor: all write the index of the first of them, so the order of writing does not matter.
    owned[forced] = (forced[:, None] == forced).int().argmax(dim=1)
    return owned


def _assign_image(
    anchors: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give classes (N,) and box deltas (N, 4) of one image."""
    if len(boxes) == 0:
        return anchors.new_full((len(anchors),), -1, dtype=torch.int64), torch.zeros_like(anchors)
    owned = match_anchors(anchors, boxes)
    positive = owned >= 0
    box = owned.clamp(min=0)
    box_deltas = encode_boxes(boxes[box], anchors).masked_fill(~positive[:, None], 0)
    return labels[box].masked_fill(~positive, -1), box_deltas
