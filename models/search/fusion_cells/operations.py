"""Candidate operations of the fusion search space (NAS-DSF).

The published four with two variants of them, and the tables; the others: extended_operations.py. Gates after ECA-Net
(1910.03151) and SA-Net (2102.00240).

An edge carries a state, a convolution of it, or nothing; a fusion operation turns two tensors of one shape into one.
Each operation is one entry of its table, and one parametrised test runs over the tables. In the supernet x and y are
one tensor; the operations then fold what they would do twice, with the same result but for rounding.

Shapes: x, y (B, C, H, W); B batch, C channels, H W spatial.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.search.fusion_cells import extended_operations as extended
from models.search.fusion_cells.choices import MAPS, SEQUENCES
from models.search.fusion_cells.layers import Features, SpatialGate, conv_of_concat
from models.search.fusion_cells.sequence_operations import ConcatFC, LinearGLU, ScaleDotAttn


class Sum(nn.Module):
    """Add x and y, of any rank; no weights."""

    def __init__(self, *sizes: float):
        super().__init__()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ConcatConv(nn.Module):
    """Concatenate x and y, then a 1x1 convolution with bias back to C channels."""

    kernel = 1

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, self.kernel, padding=self.kernel // 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return conv_of_concat(self.conv, [x, y])


class ConcatConv3x3(ConcatConv):
    """The same with a 3x3 convolution, of the richer space: also what is beside a position."""

    kernel = 3


class ECAGate(nn.Module):
    """Gate the 2C concatenated channels (ECA-Net, equation 12 for the kernel), then mix them to C."""

    def __init__(self, channels: int):
        super().__init__()
        kernel = int(abs((math.log2(2 * channels) + 1) / 2))
        kernel += 1 - kernel % 2
        self.channel_conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.combine = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        inputs = [x] if x is y else [x, y]
        pooled = [torch.cat([pool(t, dim=(2, 3)) for t in inputs], dim=1) for pool in (torch.mean, torch.amax)]
        if x is y:
            pooled = [p.repeat(1, 2) for p in pooled]
        gates = torch.sigmoid(sum(self.channel_conv(p.unsqueeze(1)).squeeze(1) for p in pooled))
        if x is y:
            return self._combine_one(x, gates)
        return self.combine(torch.cat((x, y), dim=1) * gates[:, :, None, None])

    def _combine_one(self, v: Tensor, gates: Tensor) -> Tensor:
        """Mix the two gated copies of v: gates (B, 2C) scale the weights of each sample instead of both copies."""
        weights = self.combine.weight.flatten(1) * gates[:, None]  # (B, C, 2C)
        weights = weights[:, :, : v.shape[1]] + weights[:, :, v.shape[1] :]
        places = v.movedim(1, -1)  # no copy where channels are last in memory
        mixed = torch.baddbmm(self.combine.bias, places.flatten(1, 2), weights.transpose(1, 2))
        return mixed.reshape(places.shape).movedim(-1, 1)


class ECAAttn(ECAGate):
    """ECAGate, then gate positions."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.spatial(super().forward(x, y))


class ShuffleAttn(nn.Module):
    """Gate half of each channel group by channel and half by position, shuffle, mix to C (SA-Net, section 3).

    # Paper: 32 groups; here: 32 where it divides C, else the largest power of two that does.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.groups = math.gcd(channels, 32)
        half = channels // self.groups  # channels of one half of one group of the 2C
        self.channel_weight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.channel_bias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.spatial_bias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.norm = nn.GroupNorm(half, half)
        self.combine = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if x is y and self.groups % 2 == 0:
            return self._forward_one(x)
        batch, channels, height, width = x.shape
        grouped = torch.cat((x, y), dim=1).reshape(batch * self.groups, -1, height, width)
        by_channel, by_place = grouped.chunk(2, dim=1)
        pooled = by_channel.mean(dim=(2, 3), keepdim=True)
        by_channel = by_channel * torch.sigmoid(self.channel_weight * pooled + self.channel_bias)
        by_place = by_place * torch.sigmoid(self.spatial_weight * self.norm(by_place) + self.spatial_bias)
        gated = torch.cat((by_channel, by_place), dim=1).reshape(batch, 2, channels, height, width)
        return self.combine(gated.transpose(1, 2).reshape(batch, 2 * channels, height, width))

    def _forward_one(self, v: Tensor) -> Tensor:
        """Gate v once, as both copies get the same gates, and mix by the summed weights of the channel pairs.

        Every gate is sigmoid(a v + d): a is 0 where a channel is gated as a whole; where positions are, the norm, which
        is of each channel alone, and its weights come down to one factor and one shift.
        """
        var, mean = torch.var_mean(v, dim=(2, 3), correction=0)
        var, mean = (t.reshape(len(v), self.groups // 2, 2, -1) for t in (var, mean))  # (B, group, half, channel)
        places = self.norm.weight * self.spatial_weight.flatten() * (var[:, :, 1] + self.norm.eps).rsqrt()
        shifts = self.norm.bias * self.spatial_weight.flatten() + self.spatial_bias.flatten() - places * mean[:, :, 1]
        channels = self.channel_weight.flatten() * mean[:, :, 0] + self.channel_bias.flatten()
        a = torch.stack((torch.zeros_like(places), places), dim=2).reshape(*v.shape[:2], 1, 1)
        d = torch.stack((channels, shifts), dim=2).reshape(*v.shape[:2], 1, 1)
        weight = self.combine.weight[:, 0::2] + self.combine.weight[:, 1::2]
        return F.conv2d(v * torch.sigmoid(a * v + d), weight, self.combine.bias)


def _by_name(*ops: type[nn.Module]) -> dict[str, type[nn.Module]]:
    return {op.__name__: op for op in ops}


# The order of a table is that of a space's logits; entries are built as op(channels).
# What an edge may do with a state (B, C, H, W); the weight of `none` counts for nothing.
EDGE_OPS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "skip": nn.Identity,
    "sep_conv_3x3": extended.SepConv,
    "dil_conv_3x3": extended.DilConv,
}
# By tensor rank, since a task's features decide which operations fit. In files an operation has the name of its class.
EXTENDED = (extended.CBAM, ECAGate, extended.SpatialAttn, extended.DotProductAttn, extended.GLU)
EXTENDED += (extended.ChannelWeights, ConcatConv3x3, extended.ReliabilityGate)
FUSION_OPS = {
    MAPS: _by_name(Sum, ECAAttn, ShuffleAttn, ConcatConv, *EXTENDED),
    SEQUENCES: _by_name(Sum, ScaleDotAttn, LinearGLU, ConcatFC),
}


def fusion_op(name: str, features: Features, dropout: float = 0.0) -> nn.Module:
    """Build a fusion operation; `dropout` is of those of sequences, which have it inside."""
    build = FUSION_OPS[features.rank][name]
    return build(*features[1:], dropout) if features.rank == SEQUENCES else build(features.channels)


@cache
def is_parameter_free(name: str, rank: int = 4) -> bool:
    """Tell whether an operation, of an edge or a fusion, has nothing to learn."""
    with torch.device("meta"):  # draws nothing
        op = fusion_op(name, Features(rank, 8, 4)) if name in FUSION_OPS[rank] else EDGE_OPS[name](8)
    return not list(op.parameters())
