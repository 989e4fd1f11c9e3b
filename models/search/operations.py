"""Candidate operations of the fusion search space (NAS-DSF).

Gates after ECA-Net (1910.03151), SA-Net (2102.00240) and CBAM (1807.06521).

Edges carry a state or nothing; a fusion operation turns two tensors of one shape into one of that shape.
Each operation is one entry of its table, and one parametrised test runs over the tables.

Shapes: x, y (B, C, H, W); B batch, C channels, H W spatial.
"""

import math

import torch
from torch import Tensor, nn

EDGE_OPS = ("none", "skip")  # column order of the logits; `none` has no module: its share of the weights is lost
SKIP = EDGE_OPS.index("skip")


class Sum(nn.Module):
    """Add x and y; no weights."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ConcatConv(nn.Module):
    """Concatenate x and y, then a 1x1 convolution with bias back to C channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(torch.cat((x, y), dim=1))


class SpatialGate(nn.Module):
    """Gate each position by its channel maximum and mean (CBAM, section 3)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.bn(self.conv(summary)))


class ECAAttn(nn.Module):
    """Gate the 2C concatenated channels (ECA-Net, equation 12 for the kernel), mix them to C, then gate positions."""

    def __init__(self, channels: int):
        super().__init__()
        kernel = int(abs((math.log2(2 * channels) + 1) / 2))
        kernel += 1 - kernel % 2
        self.channel_conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.combine = nn.Conv2d(2 * channels, channels, 1)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        both = torch.cat((x, y), dim=1)
        pooled = both.mean(dim=(2, 3)), both.amax(dim=(2, 3))
        logits = sum(self.channel_conv(p.unsqueeze(1)).squeeze(1) for p in pooled)
        return self.spatial(self.combine(both * torch.sigmoid(logits)[:, :, None, None]))


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
        batch, channels, height, width = x.shape
        grouped = torch.cat((x, y), dim=1).reshape(batch * self.groups, -1, height, width)
        by_channel, by_place = grouped.chunk(2, dim=1)
        pooled = by_channel.mean(dim=(2, 3), keepdim=True)
        by_channel = by_channel * torch.sigmoid(self.channel_weight * pooled + self.channel_bias)
        by_place = by_place * torch.sigmoid(self.spatial_weight * self.norm(by_place) + self.spatial_bias)
        gated = torch.cat((by_channel, by_place), dim=1).reshape(batch, 2, channels, height, width)
        return self.combine(gated.transpose(1, 2).reshape(batch, 2 * channels, height, width))


# By tensor rank, since a task's features decide which operations fit: 4 is maps (B, C, H, W).
# The order of a table is the column order of the logits; every entry is built as op(channels).
FUSION_OPS: dict[int, dict[str, type[nn.Module]]] = {
    4: {"Sum": Sum, "ECAAttn": ECAAttn, "ShuffleAttn": ShuffleAttn, "ConcatConv": ConcatConv},
}
