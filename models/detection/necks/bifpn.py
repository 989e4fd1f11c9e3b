"""BiFPN: the bidirectional feature pyramid, with a tap after every repeat.

EfficientDet (Tan et al. 2020), section 3, with fast normalised fusion (3.3). The published pattern of five levels is
extended to any number from three up. Parameter names are those of the released files.
Shapes: B images, C channels, H_l x W_l = `level_sizes` of the image; levels are P3, P4, ..., finest first.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from models.detection.anchors import level_sizes
from models.detection.layers import batch_norm, init_uniform, pointwise_norm, separable_conv

Maps = list[torch.Tensor]


def bifpn_graph(num_levels: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return the nodes of one repeat: down from the second-coarsest level to the finest, then up to the coarsest.

    Args:
        num_levels: how many levels, at least 3.

    Returns:
        Per node (level index, indices of its inputs). Inputs 0..num_levels-1 are those of the repeat, the nodes
        follow in order; the last `num_levels` nodes are the outputs.
    """
    assert num_levels >= 3, num_levels
    nodes = []
    previous = num_levels - 1
    lateral = {}  # level: its node on the way down
    for level in reversed(range(num_levels - 1)):
        nodes.append((level, (level, previous)))
        previous = lateral[level] = num_levels + len(nodes) - 1
    for level in range(1, num_levels):
        middle = (lateral[level],) if level in lateral else ()
        nodes.append((level, (level, *middle, previous)))
        previous = num_levels + len(nodes) - 1
    return nodes


class BiFPN(nn.Module):
    """Build a pyramid from three encoder maps and refine it `repeats` times.

    Args:
        in_channels: channels of the encoder's maps at strides 8, 16 and 32.
        channels: C of every output.
        repeats: how many BiFPN repeats.
        num_levels: pyramid levels from P3 up, at least 3.
    """

    def __init__(self, in_channels: list[int], channels: int, repeats: int, num_levels: int = 5) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.resample = nn.ModuleDict()
        level_channels = list(in_channels)
        if num_levels > 3:
            self.resample["3"] = _projection(in_channels[-1], channels)
            level_channels += [channels] * (num_levels - 3)
        first = BiFPNRepeat(level_channels, channels)
        others = [BiFPNRepeat([channels] * num_levels, channels) for _ in range(repeats - 1)]
        self.cell = nn.ModuleList([first, *others])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_uniform(module)

    def forward(self, features: Maps, image_size: tuple[int, int]) -> list[Maps]:
        """Compute the pyramid.

        Args:
            features: three encoder maps (B, in_channels[i], about H/stride, about W/stride).
            image_size: (height, width) in pixels of the encoder's input.

        Returns:
            Per repeat, per level: (B, C, H_l, W_l). The last entry is the detector's usual input.
        """
        sizes = level_sizes(image_size, self.num_levels)
        maps = list(features)
        for level in range(3, self.num_levels):
            project = self.resample["3"] if level == 3 else nn.Identity()
            maps.append(_resize(project(maps[-1]), sizes[level]))
        taps = []
        for repeat in self.cell:
            maps = repeat(maps, sizes)
            taps.append(maps)
        return taps


class BiFPNRepeat(nn.Module):
    """Run one top-down and one bottom-up pass; `level_channels` are the channels of the repeat's inputs."""

    def __init__(self, level_channels: list[int], channels: int) -> None:
        super().__init__()
        self.num_levels = len(level_channels)
        graph = bifpn_graph(self.num_levels)
        input_channels = level_channels + [channels] * len(graph)
        nodes = [Node(level, {i: input_channels[i] for i in inputs}, channels) for level, inputs in graph]
        self.fnode = nn.ModuleList(nodes)

    def forward(self, maps: Maps, sizes: list[tuple[int, int]]) -> Maps:
        """Return one map per level, of one map per level; every output has its level's size in `sizes`."""
        maps = list(maps)
        for node in self.fnode:
            maps.append(node(maps, sizes[node.level]))
        return maps[-self.num_levels :]


class Node(nn.Module):
    """Combine some maps at one level, then SiLU and a separable convolution with norm (no activation after it)."""

    def __init__(self, level: int, input_channels: dict[int, int], channels: int) -> None:
        super().__init__()
        self.level = level
        self.combine = Combine(input_channels, channels)
        conv = separable_conv(channels, channels)
        conv.add_module("bn", batch_norm(channels))
        self.after_combine = nn.Sequential(OrderedDict(conv=conv))

    def forward(self, maps: Maps, size: tuple[int, int]) -> torch.Tensor:
        return self.after_combine(F.silu(self.combine(maps, size)))


class Combine(nn.Module):
    """Weigh and add maps by fast normalised fusion: sum_i relu(w_i) map_i / (sum_i relu(w_i) + 1e-4).

    Args:
        input_channels: index of each input among the repeat's maps: its channels. Where they differ from C, the edge
            has a 1x1 convolution and a norm.
        channels: C.
    """

    def __init__(self, input_channels: dict[int, int], channels: int) -> None:
        super().__init__()
        self.inputs = list(input_channels)
        self.edge_weights = nn.Parameter(torch.ones(len(input_channels)))
        others = {str(i): c for i, c in input_channels.items() if c != channels}
        self.resample = nn.ModuleDict({i: _projection(c, channels) for i, c in others.items()})

    def forward(self, maps: Maps, size: tuple[int, int]) -> torch.Tensor:
        weights = F.relu(self.edge_weights)
        weights = weights / (weights.sum() + 1e-4)
        inputs = [self.resample[str(i)](maps[i]) if str(i) in self.resample else maps[i] for i in self.inputs]
        return sum(weight * _resize(x, size) for weight, x in zip(weights, inputs))


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=pointwise_norm(in_channels, channels)))


def _resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
