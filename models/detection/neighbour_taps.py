"""Taps of neighbouring levels, resized to a level's own: further inputs of the cells of fusion_v2.

Shapes: a level's taps are maps (B, C, H, W), in a list or one tensor (F, B, C, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from models.search.fusion_cells.choices import nearest_levels

Taps = list[Tensor] | Tensor


def with_neighbours(levels: Sequence[Taps], num_streams: int, count: int) -> list[list[Tensor]]:
    """Return each level's own taps, followed by the last tap of each stream on its `count` nearest levels.

    Finer maps are reduced by max pooling, coarser ones enlarged by repetition, as in EfficientDet (1911.09070).

    Returns:
        F + count * num_streams maps (B, C, H, W) per level.
    """
    repeats = len(levels[0]) // num_streams
    last = [list(taps)[repeats - 1 :: repeats] for taps in levels]
    whole = []
    for level, taps in enumerate(levels):
        level_taps, nearest = list(taps), nearest_levels(level, len(levels), count)
        size = tuple(level_taps[0].shape[-2:])
        whole.append(level_taps + [resized(tap, size) for other in nearest for tap in last[other]])
    return whole


def resized(fmap: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map (B, C, h, w) as (B, C, H, W)."""
    if fmap.shape[-1] > size[1]:
        return pooled(fmap, size)
    return fmap if tuple(fmap.shape[-2:]) == size else F.interpolate(fmap, size, mode="nearest")


def pooled(fmap: Tensor, size: tuple[int, int]) -> Tensor:
    """Return `F.adaptive_max_pool2d`, computed window by window where sizes differ, which ONNX does not support."""
    if all(big % small == 0 for big, small in zip(fmap.shape[-2:], size, strict=True)):
        return F.adaptive_max_pool2d(fmap, size)
    last = fmap.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    for dim, small in zip((-2, -1), size, strict=True):
        big = fmap.shape[dim]
        edges = [(i * big // small, -(-(i + 1) * big // small)) for i in range(small)]
        windows = [fmap.narrow(dim, start, end - start).amax(dim, keepdim=True) for start, end in edges]
        fmap = torch.cat(windows, dim)
    return fmap.contiguous(memory_format=layout)
