"""Detection loss: focal loss over all anchors plus Huber loss over the anchors that own a box.

EfficientDet (Tan et al. 2020), section 5; the focal loss has gamma 1.5.
Shapes: B images, N anchors, K classes.
"""

import torch
from torch.nn import functional as F

from models.detection.heads.anchor_targets import Targets
from models.detection.heads.focal_loss import focal_loss
from models.detection.heads.head import precise

BOX_LOSS_WEIGHT = 50.0
GAMMA = 1.5


def detection_losses(logits: torch.Tensor, deltas: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
    """Compare predictions at every anchor with their targets, in float32 at least.

    Args:
        logits: of the classes, (B, N, K).
        deltas: of the boxes, (B, N, 4).
        targets: of `assign_targets` for the same images and anchors; `num_positives` may be that of a larger batch.

    Returns:
        Scalars: "class_loss", "box_loss" and "loss" = class + 50 box. Both are sums over the batch divided by its
        number of positive anchors + 1, so a batch without boxes has a finite loss.
    """
    divisor = targets.num_positives + 1
    class_loss = focal_loss(precise(logits), targets.classes, GAMMA) / divisor
    box_loss = _box_loss(precise(deltas), targets.box_deltas) / (4 * divisor)
    return {"loss": class_loss + BOX_LOSS_WEIGHT * box_loss, "class_loss": class_loss, "box_loss": box_loss}


def _box_loss(deltas: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum the Huber loss (delta 0.1) of deltas (B, N, 4) over the anchors that own a box.

    Paper: all four components count; here: those whose target is exactly 0 do not, because the original implementation
    finds the positives by that test. Background targets are 0 too, so the one mask does both.
    """
    targets = targets.to(deltas.dtype)
    return (F.huber_loss(deltas, targets, reduction="none", delta=0.1) * (targets != 0)).sum()
