"""Taps of neighbouring levels, made equal to a level's own: what fusion_v2 offers beside the published inputs.

Shapes: a level's taps are maps (B, C, H, W), in a list or one tensor (F, B, C, H, W).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.search.spaces import nearest_levels

Taps = list[Tensor] | Tensor


def with_neighbours(levels: list[Taps], num_streams: int, count: int) -> list[Tensor]:
    """Return every level's own taps and, behind them, the last tap of each stream on its `count` nearest levels.

    Finer maps come down by their maxima, coarser ones up by repetition, as in EfficientDet (1911.09070).

    Returns:
        One tensor (F + count * num_streams, B, C, H, W) per level.
    """
    own = [taps if isinstance(taps, Tensor) else torch.stack(list(taps)) for taps in levels]
    repeats = len(own[0]) // num_streams
    last = [taps[repeats - 1 :: repeats] for taps in own]
    whole = []
    for level, taps in enumerate(own):
        size = tuple(taps.shape[-2:])
        near = [resized(last[other], size) for other in nearest_levels(level, len(own), count)]
        whole.append(torch.cat([taps, *near]))
    return whole


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N, B, C, h, w) as (N, B, C, H, W)."""
    flat = maps.flatten(0, 1)
    if flat.shape[-1] > size[1]:
        flat = F.adaptive_max_pool2d(flat, size)
    elif tuple(flat.shape[-2:]) != size:
        flat = F.interpolate(flat, size, mode="nearest")
    return flat.unflatten(0, maps.shape[:2])
