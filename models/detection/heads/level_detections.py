"""Detections of FCOS and RetinaNet: the best scores of each level, suppression per class, the best 100.

Lin et al. 2017 (1708.02002), section 4.1; FCOS (Tian et al. 2019), section 3.
Shapes: B images, N locations over all levels, K classes, V box values, k candidates.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from models.detection.heads.head import Detections, Head, image_size_of, precise
from models.detection.postprocess import MAX_DETECTIONS

CLASS_THRESHOLD = 0.05  # of the class probability alone
LEVEL_CANDIDATES = 1000


def best_of_levels(scores: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best scores (B, k) of each level, with their locations and classes; 0 is no candidate.

    Args:
        scores: (B, N, K).
        lengths: locations of each level.
    """
    num_classes, first = scores.shape[2], 0
    best, pairs = [], []
    for level in scores.split(list(lengths), dim=1):
        top = level.flatten(1).topk(min(LEVEL_CANDIDATES, level[0].numel()))
        best.append(top.values)
        pairs.append(top.indices + first)
        first += level[0].numel()
    found = torch.cat(pairs, 1)
    return torch.cat(best, 1), found // num_classes, found % num_classes


def detect_by_levels(head: Head, output: Any, batch: dict[str, Any]) -> Detections:
    """Return boxes, scores and labels of each image: see `Head.detect`. Boxes without area are left out."""
    size, (logits, values) = image_size_of(batch), map(precise, head.flatten(output))
    scores, places, labels = head.candidates(logits, values, size)
    chosen = values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))
    boxes = head.decode(chosen, head.locations(size, chosen.device)[places])
    found = zip(boxes.cpu(), scores.cpu(), labels.cpu(), batch["scales"].tolist(), batch["original_sizes"].tolist())
    return [_best(clip_boxes_to_image(b / scale, hw), s, c, head.nms_iou) for b, s, c, scale, hw in found]


def _best(boxes: Tensor, scores: Tensor, labels: Tensor, nms_iou: float) -> dict[str, Tensor]:
    """Return the best of some candidates (k,) that do not overlap."""
    there = ((boxes[:, 2:] > boxes[:, :2]).all(1) & (scores > 0)).nonzero().squeeze(1)
    kept = there[batched_nms(boxes[there], scores[there], labels[there], nms_iou)[:MAX_DETECTIONS]]
    return {"boxes_xyxy": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
