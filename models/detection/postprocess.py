"""From head output to boxes in the original image.

EfficientDet (Tan et al. 2020) as its public releases do it: the best 5,000 scores over anchors x classes, non-maximum
suppression per class, the best 100; no score threshold, because average precision wants the whole ranking. Greedy
suppression never looks ahead, so where the best 256 leave 100, these are the 100 of all 5,000: a few are tried first.
Shapes: B images, N anchors, K classes, k candidates, n detections of an image.
"""

import math

import torch
from torchvision.ops import box_convert, clip_boxes_to_image, nms

from models.detection.heads.efficientdet import HeadOutput, flatten_levels

NUM_CANDIDATES = (256, 1024, 5000)  # tried in turn; the last number is EfficientDet's
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
    logits = flatten_levels(output.class_logits, num_classes)
    deltas = flatten_levels(output.box_deltas, 4)
    scales, original_sizes = scales.tolist(), original_sizes.tolist()
    detections, waiting = {}, list(range(len(logits)))
    for k in NUM_CANDIDATES:
        boxes, scores, labels = _candidates(logits, deltas, anchors_xyxy, image_size, waiting, k)
        for i, *found in zip(waiting, boxes, scores, labels):
            detections[i] = _best_of(*found, scales[i], original_sizes[i])
        waiting = [i for i in waiting if len(detections[i]["scores"]) < MAX_DETECTIONS and k < logits[i].numel()]
        if not waiting:
            break
    return [detections[i] for i in range(len(logits))]


def _candidates(
    logits: torch.Tensor,
    deltas: torch.Tensor,
    anchors_xyxy: torch.Tensor,
    image_size: tuple[int, int],
    images: list[int],
    k: int,
) -> tuple[tuple[torch.Tensor, ...], ...]:
    """Give boxes (k, 4) in letterboxed pixels, scores (k,) and labels (k,) of each of some images, best first.

    They come to the CPU together: suppression there is quick, while a GPU would be waited for at each image and class.
    """
    best = [best_pairs(logits[i], k) for i in images]
    anchors = [pairs // logits.shape[-1] for pairs in best]
    labels = torch.cat(best).cpu() % logits.shape[-1]
    scores = torch.cat([logits[i].flatten()[pairs] for i, pairs in zip(images, best)]).cpu().float()
    chosen = torch.cat([deltas[i][places] for i, places in zip(images, anchors)]).cpu().float()
    boxes = decode_boxes(chosen, anchors_xyxy[torch.cat(anchors)].cpu())
    lengths = [len(pairs) for pairs in best]
    boxes = clip_boxes_to_image(boxes, image_size).split(lengths)
    return boxes, tuple(one.sigmoid() for one in scores.split(lengths)), labels.split(lengths)


def best_pairs(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Give `stable_topk` of the flattened logits (N, K), looking at anchors first.

    Only anchors whose best class reaches the k-th best of those can hold one of the k best pairs.
    """
    anchors = _reaching(logits.amax(dim=1), k)
    best, num_classes = stable_topk(logits[anchors].flatten(), k), logits.shape[1]
    return anchors[best // num_classes] * num_classes + best % num_classes


def stable_topk(values: torch.Tensor, k: int) -> torch.Tensor:
    """Give the indices of the min(k, all) largest of `values` (V,), largest first, the lowest index first on ties.

    torch.topk promises no order on ties and torch.sort of everything is slow, so only what reaches the k-th value is
    sorted.
    """
    candidates = _reaching(values, k)
    return candidates[values[candidates].argsort(descending=True, stable=True)[:k]]


def _reaching(values: torch.Tensor, k: int) -> torch.Tensor:
    """Give the indices of all of `values` (V,) from the k-th largest on, lowest first."""
    return (values >= values.topk(min(k, len(values))).values[-1:]).nonzero().squeeze(1)


def _best_of(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, scale: float, original_size: list[int]
) -> dict[str, torch.Tensor]:
    """Keep the best of overlapping boxes of a class. Scores come sorted, so index order is score order."""
    boxes = clip_boxes_to_image(boxes / scale, original_size)  # before suppression, as in the original implementation
    by_class = labels.argsort(stable=True).split(labels.bincount().tolist())
    kept = [places[nms(boxes[places], scores[places], NMS_IOU)] for places in by_class if len(places)]
    kept = torch.cat([labels[:0], *kept]).sort().values[:MAX_DETECTIONS]
    return {"boxes_xyxy": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
