"""Convolution and norm blocks that BiFPN and heads share, and their start values.

EfficientDet (Tan et al. 2020), section 3. Child names are those of the released checkpoint files.
Shapes: maps are (B, C, H, W).
"""

import math
from collections import OrderedDict

from torch import nn


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return the detector's batch norm: eps 1e-3, momentum 0.01, as in EfficientDet."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def set_norm_momentum(module: nn.Module, momentum: float) -> None:
    """Set the share of a new batch in the running statistics of every batch norm in the module."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = momentum


def pointwise_norm(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 1x1 convolution without bias and its norm: (B, in_channels, H, W) to (B, out_channels, H, W)."""
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=batch_norm(out_channels)))


def separable_conv(in_channels: int, out_channels: int, bias: bool = False) -> nn.Sequential:
    """Return a 3x3 depthwise convolution without bias and a 1x1 one, `bias` on the latter; the map keeps its size."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
    return nn.Sequential(OrderedDict(conv_dw=depthwise, conv_pw=nn.Conv2d(in_channels, out_channels, 1, bias=bias)))


def init_uniform(conv: nn.Conv2d) -> None:
    """Draw the weight from +-sqrt(3 / mean of fan_in and fan_out).

    For a depthwise convolution, xavier_uniform_ takes the fan out over all channels; here it is that of one group.
    """
    fan_in = conv.weight[0].numel()
    fan_out = conv.weight[:, 0].numel() / conv.groups
    bound = math.sqrt(6 / (fan_in + fan_out))
    nn.init.uniform_(conv.weight, -bound, bound)


def init_normal(conv: nn.Conv2d) -> None:
    """Draw the weight from a normal of standard deviation sqrt(1 / fan_in)."""
    nn.init.normal_(conv.weight, std=math.sqrt(1 / conv.weight[0].numel()))
