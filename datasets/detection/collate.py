"""Joining detection samples into batches.

Shapes: B batch; H, W letterboxed size; M the most boxes of one image of the batch, at least 1; S streams; K maps of one
shape per stream (R taps of a level, or 1 encoder map) of C channels. Boxes are xyxy pixels of the letterboxed image.
"""

from typing import Any

import torch
from torch import Tensor


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join samples of one size.

    Args:
        samples: as from `DetectionDataset`, `CachedDataset` or `CorruptedImages`.
    Returns:
        As of `collate_targets`, with "images": {modality: uint8 (B, channels, H, W)}, or in
        their place "features" as of `join_features`, or "versions" with images by severity.
    """
    batch = collate_targets(samples)
    if "features" in samples[0]:
        return batch | {"features": join_features(samples)}
    if "versions" in samples[0]:
        severities = samples[0]["versions"]
        return batch | {"versions": {n: _join([sample["versions"][n] for sample in samples]) for n in severities}}
    return batch | {"images": _join([sample["images"] for sample in samples])}


def collate_targets(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join everything of the samples but their images.

    Args:
        samples: as from `DetectionDataset`; "images" is not read.
    Returns:
        "boxes_xyxy": float32 (B, M, 4) and "labels": int64 (B, M), filled up with zero boxes of label -1;
        "image_ids", "file_names": lists, "scales": float32 (B,), "original_sizes": int64 (B, 2) as (height, width),
        "image_size" (H, W).
    """
    most = max(1, *(len(sample["labels"]) for sample in samples))
    boxes_xyxy, labels = torch.zeros(len(samples), most, 4), torch.full((len(samples), most), -1)
    for i, sample in enumerate(samples):
        boxes_xyxy[i, : len(sample["labels"])] = sample["boxes_xyxy"]
        labels[i, : len(sample["labels"])] = sample["labels"]
    return {
        "boxes_xyxy": boxes_xyxy,
        "labels": labels,
        "image_ids": [sample["image_id"] for sample in samples],
        "file_names": [sample["file_name"] for sample in samples],
        "scales": torch.tensor([sample["scale"] for sample in samples], dtype=torch.float32),
        "original_sizes": torch.tensor([sample["original_size"] for sample in samples], dtype=torch.int64),
        "image_size": samples[0]["image_size"],
    }


def join_features(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join cached features into what a detector reads in place of images.

    Args:
        samples: with "features" {stream: maps (K, H, W, C)}, their "kind", and "image_size".
    Returns:
        {kind: maps (S * K, B, C, H, W), "image_size"}.
    """
    by_map = zip(*(zip(*sample["features"].values()) for sample in samples))
    return {samples[0]["kind"]: [_join_maps(maps) for maps in by_map], "image_size": samples[0]["image_size"]}


def _join_maps(samples: tuple[tuple[Tensor, ...], ...]) -> Tensor:
    """Join B samples of S maps (K, H, W, C) each into (S * K, B, C, H, W), channels last in memory."""
    streams, (count, *rest) = len(samples[0]), samples[0][0].shape
    joined = torch.empty(streams * count, len(samples), *rest, dtype=samples[0][0].dtype)
    for place, maps in enumerate(samples):
        for stream, features in enumerate(maps):
            joined[stream * count : (stream + 1) * count, place] = features
    return joined.movedim(-1, 2)


def _join(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join images (C, H, W) of each modality into (B, C, H, W), channels last in memory like each of them."""
    return {m: torch.stack([images[m].permute(1, 2, 0) for images in samples]).permute(0, 3, 1, 2) for m in samples[0]}
