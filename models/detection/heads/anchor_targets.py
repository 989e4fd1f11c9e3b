"""Training targets: which anchor learns which box.

RetinaNet (Lin et al. 2017), section 4.1, as EfficientDet uses it: positive from IoU 0.5 on, everything else background
(no ignore band), and each box also owns its best anchor, whatever the IoU. torchvision's Matcher with low-quality
matches differs: it gives a box all anchors that tie, and a forced anchor to its best box, not the one that forces it.
All images are matched at once and no value is read back from the device, so a GPU does not stall.

Shapes: B images, N anchors, M boxes of an image; an image with fewer is padded with boxes of label -1.
"""

import math
from typing import NamedTuple

import torch
from torch.nn import functional as F
from torchvision.ops import box_convert

IOU_THRESHOLD = 0.5
MAX_LOG_RATIO = math.log(1e5)  # a side of 1e5 anchor sides is beyond any image: this only keeps exp from overflowing
BOXES_AT_ONCE = 32  # of the whole batch, or one of each image; limits the memory of the IoU table


class Targets(NamedTuple):
    """`classes`: (B, N) int64, -1 for background. `box_deltas`: (B, N, 4) float32 in ty, tx, th, tw, 0 for background.

    `num_positives`: float32 scalar, the anchors of the whole batch that own a box.
    """

    classes: torch.Tensor
    box_deltas: torch.Tensor
    num_positives: torch.Tensor


def assign_targets(anchors_xyxy: torch.Tensor, boxes_xyxy: torch.Tensor, labels: torch.Tensor) -> Targets:
    """Assign the boxes of a batch to anchors and encode them.

    Args:
        anchors_xyxy: (N, 4) float32 pixels.
        boxes_xyxy: (B, M, 4) float32 pixels with x1 < x2 and y1 < y2, on the anchors' device; M at least 1.
        labels: (B, M) int64 class channels; -1 for padding.

    Returns:
        The targets of the batch.
    """
    owned = match_anchors(anchors_xyxy, boxes_xyxy, labels >= 0)
    background = owned < 0
    first = torch.arange(len(labels), device=labels.device)[:, None] * labels.shape[1]
    box = owned.clamp(min=0) + first
    deltas = encode_boxes(boxes_xyxy.flatten(0, 1)[box], anchors_xyxy).masked_fill_(background[..., None], 0)
    classes = labels.flatten()[box].masked_fill_(background, -1)
    return Targets(classes, deltas, (classes >= 0).sum().float())


def encode_boxes(boxes_xyxy: torch.Tensor, anchors_xyxy: torch.Tensor) -> torch.Tensor:
    """Express boxes (..., 4) by anchors (..., 4): ty, tx (centre shift / anchor side) and th, tw (log ratio)."""
    box_x, box_y, box_w, box_h = box_convert(boxes_xyxy, "xyxy", "cxcywh").unbind(-1)
    x, y, w, h = box_convert(anchors_xyxy, "xyxy", "cxcywh").unbind(-1)
    return torch.stack([(box_y - y) / h, (box_x - x) / w, (box_h / h).log(), (box_w / w).log()], dim=-1)


def decode_boxes(deltas: torch.Tensor, anchors_xyxy: torch.Tensor) -> torch.Tensor:
    """Undo `encode_boxes`: deltas (N, 4) in ty, tx, th, tw and their anchors (N, 4) give boxes (N, 4) xyxy pixels."""
    ty, tx, th, tw = deltas.unbind(-1)
    x, y, w, h = box_convert(anchors_xyxy, "xyxy", "cxcywh").unbind(-1)
    widths = tw.clamp(max=MAX_LOG_RATIO).exp() * w
    heights = th.clamp(max=MAX_LOG_RATIO).exp() * h
    return box_convert(torch.stack([tx * w + x, ty * h + y, widths, heights], dim=-1), "cxcywh", "xyxy")


def match_anchors(anchors_xyxy: torch.Tensor, boxes_xyxy: torch.Tensor, exists: torch.Tensor) -> torch.Tensor:
    """Find the box of its image that each anchor owns.

    Args:
        anchors_xyxy: (N, 4).
        boxes_xyxy: (B, M, 4), M at least 1.
        exists: (B, M) bool, false for padding, which has no area.

    Returns:
        (B, N) int64 box index, -1 for background. On ties the lowest index wins, for boxes and for anchors.
    """
    num_images, num_boxes, _ = boxes_xyxy.shape
    owned = exists.new_full((num_images, len(anchors_xyxy)), -1, dtype=torch.int64)
    best_iou = anchors_xyxy.new_zeros(owned.shape)
    best_anchors = []
    chunk = max(1, BOXES_AT_ONCE // num_images)
    for start in range(0, num_boxes, chunk):
        iou = pairwise_iou(boxes_xyxy[:, start : start + chunk], anchors_xyxy)
        best_anchors.append(iou.argmax(dim=2))
        for box, box_iou in enumerate(iou.unbind(1), start):  # faster on a CPU than iou.max(dim=1)
            owned.masked_fill_(box_iou > best_iou, box)
            torch.maximum(box_iou, best_iou, out=best_iou)
    owned.masked_fill_(best_iou < IOU_THRESHOLD, -1)
    return _force(owned, torch.cat(best_anchors, dim=1), exists)


def _force(owned: torch.Tensor, best_anchors: torch.Tensor, exists: torch.Tensor) -> torch.Tensor:
    """Assign each box its best anchor (B, M) as well, in `owned` (B, N)."""
    beyond = owned.shape[1]  # one more anchor, for padding
    forced = best_anchors.masked_fill(~exists, beyond)
    # Boxes that share a best anchor all write the index of the first of them, so the order of writing does not matter.
    first = (forced[:, :, None] == forced[:, None, :]).int().argmax(dim=2)
    return F.pad(owned, (0, 1)).scatter_(1, forced, first)[:, :beyond]


def pairwise_iou(boxes_xyxy: torch.Tensor, anchors_xyxy: torch.Tensor) -> torch.Tensor:
    """Return the IoU of boxes (B, m, 4) with anchors (N, 4): (B, m, N).

    The bits are those of torchvision's box_iou, which takes two to four times as long: 22 ms more in a step on cached
    features of 8 pairs of 192 px, which takes 60 ms.
    """
    x1, y1, x2, y2 = boxes_xyxy.unsqueeze(-1).unbind(-2)
    left, top, right, bottom = anchors_xyxy.T.contiguous()
    width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
    height = torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0)
    shared = width.mul_(height)
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return shared.div_(areas.sub_(shared))
