"""What several operations of the search spaces are made of: a folding convolution, and a gate of positions.

Shapes: B batch, C channels, H W spatial.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_of_concat(conv: nn.Conv2d, tensors: list[Tensor]) -> Tensor:
    """Convolve the concatenation (B, n C, H, W); a tensor that is there twice is convolved once, by summed weights."""
    once: list[Tensor] = []
    weights: list[Tensor] = []
    for tensor, weight in zip(tensors, conv.weight.split([t.shape[1] for t in tensors], dim=1), strict=True):
        known = [n for n, other in enumerate(once) if other is tensor]  # torch 2.6 cannot compile id(tensor)
        if known:
            weights[known[0]] = weights[known[0]] + weight
        else:
            once, weights = [*once, tensor], [*weights, weight]
    if len(once) == len(tensors):
        return conv(torch.cat(tensors, dim=1))
    return F.conv2d(torch.cat(once, dim=1), torch.cat(weights, dim=1), conv.bias, padding=conv.padding)


class SpatialGate(nn.Module):
    """Gate each position by its channel maximum and mean (CBAM, section 3)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.bn(self.conv(summary)))
