"""Losses of FCOS: focal loss over all points, box loss and centre-ness over the positive ones.

FCOS (Tian et al. 2019, 1904.01355), equation 2, with the GIoU loss of "imprv". As in its release, and unlike
torchvision, areas of one square stride are added to intersection and union, and the box loss is weighted by the
centre-ness target.

Shapes: B images, N points, K classes; distances are left, top, right, bottom in strides.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from models.detection.heads.fcos_targets import PointTargets
from models.detection.heads.focal_loss import focal_loss
from models.detection.heads.head import precise

GAMMA = 2.0
EPS = 1e-7  # of the enclosing area


def normalizers(targets: PointTargets) -> Tensor:
    """Return the number of positive points of a batch and the sum of their centre-ness targets, (2,)."""
    positives = (targets.classes >= 0).sum().to(targets.centerness.dtype)
    return torch.stack([positives, targets.centerness.sum()])


def point_losses(
    logits: Tensor, values: Tensor, targets: PointTargets, sums: Tensor, box_loss: str
) -> dict[str, Tensor]:
    """Compare predictions at every point with their targets, in float32 at least.

    Args:
        logits: of the classes, (B, N, K).
        values: (B, N, 5), the distances, at least 0, and the logit of the centre-ness.
        targets: of `assign_points` for the same images.
        sums: `normalizers` of the targets, or of a larger batch.
        box_loss: of BOX_LOSSES.

    Returns:
        Scalars: "class_loss", "box_loss", "centerness_loss" and "loss", their sum. The last two are 0 without positive
        points.
    """
    positives, centerness = sums[0].clamp(min=1), sums[1].masked_fill(sums[1] == 0, 1)
    positive, values = targets.classes >= 0, precise(values)
    distances = values[..., :4].where(positive[..., None], targets.distances)  # no gradient for background
    box_losses = BOX_LOSSES[box_loss](distances, targets.distances)
    entropy = F.binary_cross_entropy_with_logits(values[..., 4], targets.centerness.to(values.dtype), reduction="none")
    class_term = focal_loss(precise(logits), targets.classes, GAMMA) / positives
    box_term = (box_losses * targets.centerness).sum() / centerness
    centerness_term = (entropy * positive).sum() / positives
    losses = {"class_loss": class_term, "box_loss": box_term, "centerness_loss": centerness_term}
    return {"loss": class_term + box_term + centerness_term, **losses}


def _overlap(distances: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the IoU of pairs of boxes around one point with one added to both areas, and their union, (B, N)."""
    shared = _area(torch.minimum(distances, others))
    union = _area(distances) + _area(others) - shared
    return (shared + 1) / (union + 1), union


def _area(distances: Tensor) -> Tensor:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)


def _giou_loss(distances: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - GIoU (Rezatofighi et al. 2019)."""
    iou, union = _overlap(distances, targets)
    enclosing = _area(torch.maximum(distances, targets)) + EPS
    return 1 - iou + (enclosing - union) / enclosing


def _iou_loss(distances: Tensor, targets: Tensor) -> Tensor:
    return -_overlap(distances, targets)[0].log()


def _linear_iou_loss(distances: Tensor, targets: Tensor) -> Tensor:
    return 1 - _overlap(distances, targets)[0]


# name -> loss (B, N) of distances and their targets, (B, N, 4) each
BOX_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "giou": _giou_loss,
    "iou": _iou_loss,
    "linear_iou": _linear_iou_loss,
}
