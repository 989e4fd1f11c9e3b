"""What operations and nodes are made of: features of a rank, a folding convolution, a gate of positions.

Shapes: B batch, C channels, H W spatial, L positions of a sequence.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.search.fusion_cells.choices import MAPS


class Features(NamedTuple):
    """Sizes of the features that a cell fuses: rank, channels C and, of sequences, length L."""

    rank: int
    channels: int
    length: int = 0

    def conv(self, count: int) -> nn.Module:
        """Return the 1x1 convolution that makes one of so many concatenated states."""
        build = nn.Conv2d if self.rank == MAPS else nn.Conv1d
        return build(count * self.channels, self.channels, 1)

    def norm(self) -> nn.Module:
        """Return the norm behind that convolution."""
        return nn.BatchNorm2d(self.channels) if self.rank == MAPS else nn.BatchNorm1d(self.channels)

    def end_norm(self, count: int = 1) -> nn.Module:
        """Return the norm at the end of a node, or over so many nodes."""
        if self.rank == MAPS:
            return nn.BatchNorm2d(count * self.channels)
        return nn.LayerNorm((count * self.channels, self.length))


def conv_of_concat(conv: nn.Conv1d | nn.Conv2d, tensors: list[Tensor]) -> Tensor:
    """Convolve the concatenation (B, n C, ...); a tensor that is there twice is convolved once, by summed weights."""
    once: list[Tensor] = []
    weights: list[Tensor] = []
    for tensor, weight in zip(tensors, conv.weight.split([t.shape[1] for t in tensors], dim=1), strict=True):
        earlier = [n for n, other in enumerate(once) if other is tensor]  # torch 2.6 cannot compile id(tensor)
        if earlier:
            weights[earlier[0]] = weights[earlier[0]] + weight
        else:
            once, weights = [*once, tensor], [*weights, weight]
    if len(once) == len(tensors):
        return conv(torch.cat(tensors, dim=1))
    convolve = F.conv2d if conv.weight.dim() == MAPS else F.conv1d
    return convolve(torch.cat(once, dim=1), torch.cat(weights, dim=1), conv.bias, padding=conv.padding)


class SpatialGate(nn.Module):
    """Gate each position by its channel maximum and mean (CBAM, section 3)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.bn(self.conv(summary)))
