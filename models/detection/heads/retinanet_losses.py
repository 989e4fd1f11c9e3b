"""Targets and losses of RetinaNet: focal loss with a band of ignored anchors, smooth L1 on the codes of boxes.

Lin et al. 2017 (1708.02002), section 4.1, with normalisers and box codes as FAD's second detector has them. Unlike
EfficientDet's, anchors of IoU 0.4 to 0.5 teach nothing, and a box keeps all of its best anchors.

Shapes: B images, N anchors, K classes, M boxes of an image; an image with fewer is padded with boxes of label -1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.detection.heads import anchor_targets
from models.detection.heads.anchor_targets import encode_boxes, pairwise_iou
from models.detection.heads.focal_loss import focal_loss
from models.detection.heads.head import precise

POSITIVE_IOU, BACKGROUND_IOU = 0.5, 0.4
BACKGROUND, IGNORED = -1, -2
CODE_ORDER, CODE_WEIGHTS = (1, 0, 3, 2), (10.0, 10.0, 5.0, 5.0)  # tx, ty, tw, th of ty, tx, th, tw
MAX_LOG_RATIO = math.log(1000 / 16)
GAMMA, BETA = 2.0, 0.11
NEVER = -1e4  # a logit whose focal loss as a negative is 0, with its gradient


class AnchorTargets(NamedTuple):
    """`classes`: (B, N) int64, BACKGROUND or IGNORED for none. `codes`: (B, N, 4), 0 for none."""

    classes: Tensor
    codes: Tensor


def assign_anchors(anchors_xyxy: Tensor, boxes_xyxy: Tensor, labels: Tensor) -> AnchorTargets:
    """Assign the boxes of a batch to anchors and encode them.

    Args:
        anchors_xyxy: (N, 4) pixels.
        boxes_xyxy: (B, M, 4) pixels with x1 < x2 and y1 < y2, on the anchors' device; M at least 1.
        labels: (B, M) int64 class channels; -1 for padding.
    """
    owned = match_anchors(anchors_xyxy, boxes_xyxy, labels >= 0)
    box = owned.clamp(min=0)
    boxes = boxes_xyxy.gather(1, box[..., None].expand(-1, -1, 4))
    codes = encode_boxes(boxes, anchors_xyxy)[..., CODE_ORDER] * boxes.new_tensor(CODE_WEIGHTS)
    return AnchorTargets(labels.gather(1, box).where(owned >= 0, owned), codes.masked_fill(owned[..., None] < 0, 0))


def match_anchors(anchors_xyxy: Tensor, boxes_xyxy: Tensor, exists: Tensor) -> Tensor:
    """Find the box of its image that each anchor owns: that of its highest IoU, from 0.5 on.

    All anchors of a box's own highest IoU are owned as well, by the box of their highest IoU.

    Args:
        anchors_xyxy: (N, 4).
        boxes_xyxy: (B, M, 4), M at least 1.
        exists: (B, M) bool, false for padding, which has no area.

    Returns:
        (B, N) int64 box index, BACKGROUND or IGNORED. Of equal IoUs the first box wins.
    """
    best_iou = torch.zeros_like(anchors_xyxy[:, 0]).expand(len(boxes_xyxy), -1)
    owned = torch.full_like(best_iou, -1, dtype=torch.int64)
    kept = torch.zeros_like(owned, dtype=torch.bool)
    for number in range(boxes_xyxy.shape[1]):
        iou = pairwise_iou(boxes_xyxy[:, number : number + 1], anchors_xyxy).squeeze(1)
        owned = owned.masked_fill(iou > best_iou, number)
        best_iou = torch.maximum(best_iou, iou)
        kept |= (iou == iou.amax(1, keepdim=True)) & exists[:, number, None]
    unsure = owned.new_full((), IGNORED).where(best_iou >= BACKGROUND_IOU, BACKGROUND)
    return owned.where(kept | (best_iou >= POSITIVE_IOU), unsure)


def decode_boxes(codes: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Return boxes (..., 4) xyxy pixels of codes (..., 4) in tx, ty, tw, th and their anchors (..., 4)."""
    tx, ty, tw, th = (codes / codes.new_tensor(CODE_WEIGHTS)).unbind(-1)
    tw, th = (ratio.clamp(max=MAX_LOG_RATIO) for ratio in (tw, th))
    return anchor_targets.decode_boxes(torch.stack([ty, tx, th, tw], dim=-1), anchors_xyxy)


def normalizers(targets: AnchorTargets) -> Tensor:
    """Return the number of positive anchors of a batch and that of its images, (2,)."""
    positives = (targets.classes >= 0).sum()
    return torch.stack([positives, torch.full_like(positives, len(targets.classes))]).float()


def retinanet_losses(logits: Tensor, codes: Tensor, targets: AnchorTargets, sums: Tensor) -> dict[str, Tensor]:
    """Compare predictions at every anchor with their targets, in float32 at least.

    Args:
        logits: of the classes, (B, N, K).
        codes: of the boxes, (B, N, 4).
        targets: of `assign_anchors` for the same images.
        sums: `normalizers` of the targets, or of a larger batch.

    Returns:
        Scalars: "class_loss", "box_loss", 0 without positive anchors, and "loss", their sum.
    """
    positives, images = sums
    classes, codes = targets.classes, precise(codes)
    taught = precise(logits).masked_fill((classes == IGNORED)[..., None], NEVER)
    class_loss = focal_loss(taught, classes, GAMMA) / (positives + images)
    apart = F.smooth_l1_loss(codes, targets.codes.to(codes.dtype), reduction="none", beta=BETA)
    box_loss = apart.sum(-1).where(classes >= 0, 0).sum() / (4 * positives).clamp(min=1)
    return {"loss": class_loss + box_loss, "class_loss": class_loss, "box_loss": box_loss}
