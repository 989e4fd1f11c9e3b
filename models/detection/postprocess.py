"""From the predictions of a head to boxes in the original image.

EfficientDet (Tan et al. 2020) as its public releases do it: the best 5,000 scores over locations x classes,
non-maximum suppression per class, the best 100. There is no score threshold, because average precision is of the whole
ranking. Greedy suppression never looks ahead. So if 100 boxes are left of the best 256, they are also the 100 of all
5,000. Fewer candidates are tried first, which is 3 to 20 times as fast as 5,000 at once.

Shapes: B images, N locations (anchors), K classes, V box values, k candidates, n detections of an image.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

NUM_CANDIDATES = (256, 1024, 5000)  # tried in turn; the last number is EfficientDet's
MAX_DETECTIONS = 100
NMS_IOU = 0.5
Decode = Callable[[Tensor, Tensor], Tensor]


def detect(logits: Tensor, values: Tensor, decode: Decode, batch: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Turn a head's predictions at all locations into detections; equal scores keep the order of locations and classes.

    Args:
        logits: of the classes, (B, N, K).
        values: of the boxes, (B, N, V).
        decode: turns values (n, V) and the numbers (n,) of their locations, on the CPU, into boxes (n, 4) xyxy pixels
            of the letterboxed image.
        batch: of the loader: "image_size", height and width in pixels of the letterboxed images; "scales" (B,),
            letterboxed pixels per original pixel; "original_sizes" (B, 2), height and width before letterboxing.

    Returns:
        Per image a dict, best first, n <= 100: "boxes_xyxy" (n, 4) float32 pixels of the original image, clipped to
        it; "scores" (n,) in 0..1; "labels" (n,) int64 class channels.
    """
    sizes = list(zip(batch["scales"].tolist(), batch["original_sizes"].tolist(), strict=True))
    detections: dict[int, dict[str, Tensor]] = {}
    pending = list(range(len(logits)))
    for k in NUM_CANDIDATES:
        candidates = _candidates(logits, values, decode, pending, k)
        for i, (boxes, scores, labels) in zip(pending, candidates, strict=True):
            boxes = clip_boxes_to_image(boxes, batch["image_size"])
            detections[i] = _best_of(boxes, scores, labels, *sizes[i])
        pending = [i for i in pending if len(detections[i]["scores"]) < MAX_DETECTIONS and k < logits[i].numel()]
        if not pending:
            break
    return [detections[i] for i in range(len(logits))]


def _candidates(
    logits: Tensor, values: Tensor, decode: Decode, images: list[int], k: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return boxes (k, 4) in letterboxed pixels, scores (k,) and labels (k,) of each of some images, best first.

    All images are copied to the CPU together. Suppression is quick there, while on a GPU every image and class would
    have to wait for the device.
    """
    best = [best_pairs(logits[i], k) for i in images]
    places = [pairs // logits.shape[-1] for pairs in best]
    labels = torch.cat(best).cpu() % logits.shape[-1]
    scores = torch.cat([logits[i].flatten()[pairs] for i, pairs in zip(images, best)]).cpu().float()
    chosen = torch.cat([values[i][place] for i, place in zip(images, places)]).cpu().float()
    boxes = decode(chosen, torch.cat(places).cpu())
    lengths = [len(pairs) for pairs in best]
    scores_of = [part.sigmoid() for part in scores.split(lengths)]
    return list(zip(boxes.split(lengths), scores_of, labels.split(lengths), strict=True))


def best_pairs(logits: Tensor, k: int) -> Tensor:
    """Return `stable_topk` of the flattened logits (N, K), computed from the best class of each location first.

    Only locations whose best class is among the k best of these can hold one of the k best pairs.
    """
    places = _reaching(logits.amax(dim=1), k)
    best, num_classes = stable_topk(logits[places].flatten(), k), logits.shape[1]
    return places[best // num_classes] * num_classes + best % num_classes


def stable_topk(values: Tensor, k: int) -> Tensor:
    """Return the indices of the min(k, all) largest of `values` (V,), largest first, the lowest index first on ties.

    torch.topk promises no order on ties, and sorting everything is slow, so only values from the k-th on are sorted.
    """
    candidates = _reaching(values, k)
    return candidates[values[candidates].argsort(descending=True, stable=True)[:k]]


def _reaching(values: Tensor, k: int) -> Tensor:
    """Return the indices of all of `values` (V,) from the k-th largest on, lowest first."""
    return (values >= values.topk(min(k, len(values))).values[-1:]).nonzero().squeeze(1)


def _best_of(
    boxes: Tensor, scores: Tensor, labels: Tensor, scale: float, original_size: list[int]
) -> dict[str, Tensor]:
    """Keep the best of overlapping boxes of a class. Scores come sorted, so index order is score order."""
    boxes = clip_boxes_to_image(boxes / scale, original_size)  # before suppression, as in the original implementation
    by_class = labels.argsort(stable=True).split(labels.bincount().tolist())
    apart = [places[nms(boxes[places], scores[places], NMS_IOU)] for places in by_class if len(places)]
    kept = torch.cat([labels[:0], *apart]).sort().values[:MAX_DETECTIONS]
    return {"boxes_xyxy": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
