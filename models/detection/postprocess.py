"""From head output to boxes in the original image.

EfficientDet (Tan et al. 2020) as its public releases do it: the best 5,000 scores over anchors x classes, non-maximum
suppression per class, the best 100; no score threshold, because average precision wants the whole ranking.
Shapes: B images, N anchors, K classes, n detections of an image.
"""

import math

import torch
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from models.detection.heads import HeadOutput, flatten_levels

MAX_CANDIDATES = 5000
MAX_DETECTIONS = 100
NMS_IOU = 0.5
MAX_LOG_RATIO = math.log(1e5)  # a side of 1e5 anchor sides is beyond any image: this only keeps exp from overflowing


def decode_boxes(deltas: torch.Tensor, anchors_xyxy: torch.Tensor) -> torch.Tensor:
    """Undo `encode_boxes`: deltas (N, 4) in ty, tx, th, tw and their anchors (N, 4) give boxes (N, 4) xyxy pixels."""
    ty, tx, th, tw = deltas.unbind(-1)
    x, y, w, h = box_convert(anchors_xyxy, "xyxy", "cxcywh").unbind(-1)
    widths = tw.clamp(max=MAX_LOG_RATIO).exp() * w
    heights = th.clamp(max=MAX_LOG_RATIO).exp() * h
    return box_convert(torch.stack([tx * w + x, ty * h + y, widths, heights], dim=-1), "cxcywh", "xyxy")


def detect(
    output: HeadOutput,
    anchors_xyxy: torch.Tensor,
    image_size: tuple[int, int],
    num_classes: int,
    scales: torch.Tensor,
    original_sizes: torch.Tensor,
) -> list[dict[str, torch.Tensor]]:
    """Turn a batch's head output into detections; equal scores keep the order of anchors and classes.

    Args:
        output: of the detection head, B images.
        anchors_xyxy: (N, 4) float32 pixels of the letterboxed image.
        image_size: (height, width) in pixels of the letterboxed image.
        num_classes: K.
        scales: (B,) letterboxed pixels per original pixel.
        original_sizes: (B, 2) height and width in pixels before letterboxing.

    Returns:
        Per image a dict, best first, n <= 100: "boxes_xyxy" (n, 4) float32 pixels of the original image, clipped to
        it; "scores" (n,) in 0..1; "labels" (n,) int64 class channels.
    """
    class_logits = flatten_levels(output.class_logits, num_classes).float()
    box_deltas = flatten_levels(output.box_deltas, 4).float()
    detections = []
    for logits, deltas, scale, size in zip(class_logits, box_deltas, scales.tolist(), original_sizes.tolist()):
        best = stable_topk(logits.flatten(), MAX_CANDIDATES)
        anchor = best.div(num_classes, rounding_mode="floor")
        boxes = clip_boxes_to_image(decode_boxes(deltas[anchor], anchors_xyxy[anchor]), image_size)
        boxes = clip_boxes_to_image(boxes / scale, size)  # before suppression, as in the original implementation
        detections.append(_suppress(boxes, logits.flatten()[best].sigmoid(), best % num_classes))
    return detections


def stable_topk(values: torch.Tensor, k: int) -> torch.Tensor:
    """Give the indices of the min(k, all) largest of `values` (V,), largest first, the lowest index first on ties.

    torch.topk promises no order on ties and torch.sort of everything is slow, so only what reaches the k-th value is
    sorted.
    """
    k = min(k, len(values))
    candidates = (values >= values.topk(k).values[-1]).nonzero().squeeze(1)
    return candidates[values[candidates].argsort(descending=True, stable=True)[:k]]


def _suppress(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Keep the best of overlapping boxes of a class. Scores come sorted, so index order is score order."""
    kept = batched_nms(boxes, scores, labels, NMS_IOU).sort().values[:MAX_DETECTIONS]
    return {"boxes_xyxy": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
