"""The layers of towers, and the shared edge of the supernet: representation sharing of FAD (2007.12075, section 3.3).

Shapes: maps (B, C, H, W); B batch, C inner channels, W outer channels of a cell.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from models.search.tower_cells.operations import NUM_INPUTS, NUM_NODES, Chain

MOST_GROUPS = 32  # of a norm, as published; fewer where 32 does not divide the channels
DILATIONS = {"sin": 1, "dil": 2, "dilr3": 3}  # of the depthwise convolutions
Edge = tuple[int, int]  # node and source
Entered = dict[Edge, Tensor]


class GroupNorm(nn.GroupNorm):
    """A group norm that also takes one image whose groups hold one value; torch's refuses it, but not two images."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a norm of 32 groups, or of the largest power of two that divides the channels."""
    return GroupNorm(math.gcd(MOST_GROUPS, channels), channels)


class DepthwiseConv(nn.Conv2d):
    """A depthwise 3x3 convolution of the same size, dilated or not, whose gradients take little time on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return depthwise(x, self.weight, self.bias, self.dilation[0])


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Return the depthwise convolution of x (B, C, H, W) with a weight (C, 1, 3, 3), of the same size."""
    learning = torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    if dilation > 1 and learning and x.device.type == "cpu":
        return _DilatedDepthwise.apply(x, weight, bias, dilation)
    return F.conv2d(x, weight, bias, padding=dilation, dilation=dilation, groups=len(weight))


class _DilatedDepthwise(torch.autograd.Function):
    """A dilated depthwise convolution with gradients by faster convolutions: torch's take four times as long on a CPU.

    The gradient of x is a dilated convolution with the flipped weight. That of the weight is one of a convolution
    without dilation, on the maps that every `dilation`-th row and column make.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return F.conv2d(x, weight, bias, padding=dilation, dilation=dilation, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        (x, weight), dilation = ctx.saved_tensors, ctx.dilation
        size = {"padding": dilation, "dilation": dilation, "groups": len(weight)}
        of_x = F.conv2d(gradient, weight.flip(2, 3), **size)
        parts = [_every_nth(maps, dilation) for maps in (x, gradient)]
        of_weight = conv2d_weight(parts[0], weight.shape, parts[1], padding=1, groups=len(weight))
        return of_x, of_weight, gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None, None


def _every_nth(x: Tensor, n: int) -> Tensor:
    """Return (n * n * B, C, H / n, W / n), rounded up: the maps that every n-th row and column of x make."""
    height, width = x.shape[-2:]
    if height % n or width % n:
        x = F.pad(x, (0, -width % n, 0, -height % n))
    x = x.unflatten(3, (-1, n)).unflatten(2, (-1, n))
    return x.permute(3, 5, 0, 2, 4, 1).flatten(0, 2).permute(0, 3, 1, 2)


def make_layer(kind: str, channels: int) -> nn.Sequential:
    """Return a layer: convolution, norm, ReLU.

    Args:
        kind: "std": 3x3; "sin", "dil", "dilr3": depthwise 3x3 of dilation 1, 2, 3, then 1x1.
        channels: C, in and out.
    """
    layer = nn.Sequential()
    if kind == "std":
        layer.conv = nn.Conv2d(channels, channels, 3, padding=1)
    else:
        dilation, bias = DILATIONS[kind], kind != "sin"  # as published
        shape = {"padding": dilation, "dilation": dilation, "groups": channels, "bias": bias}
        layer.depth = DepthwiseConv(channels, channels, 3, **shape)
        layer.point = nn.Conv2d(channels, channels, 1)
    layer.norm = group_norm(channels)
    layer.relu = nn.ReLU(inplace=True)
    return layer


class MixedEdge(nn.Module):
    """The weights of all operations of an edge, on shared layers: one serves every operation whose chain begins alike.

    The output of a layer that further layers read passes a 1x1 convolution of its own before it is mixed
    ("decoupling"); the chain goes on from the layer itself. How edges run: models/search/tower_cells/joined.py.

    Args:
        chains: of the operations.
        width: W.
        channels: C.
        decouple: False leaves these convolutions out.
    """

    def __init__(self, chains: Sequence[Chain], width: int, channels: int, decouple: bool = True):
        super().__init__()
        prefixes = all_prefixes(chains)
        longer = {prefix[:-1] for prefix in prefixes if decouple}
        self.enter = nn.Conv2d(width, channels, 1, bias=False)
        self.layers = nn.ModuleDict({"_".join(prefix): make_layer(prefix[-1], channels) for prefix in prefixes})
        self.decouple = nn.ModuleDict(
            {"_".join(c): nn.Conv2d(channels, channels, 1, bias=False) for c in chains if c in longer}
        )
        self.leave = nn.Conv2d(channels, width, 1, bias=False)


def all_prefixes(chains: Iterable[Chain]) -> list[Chain]:
    """Return the chains and what they begin with, each once, every one behind its beginning."""
    return list(dict.fromkeys(chain[:end] for chain in chains for end in range(1, len(chain) + 1)))


def run_cell(s0: Tensor, s1: Tensor, edges: Mapping[Edge, nn.Module], inner: Callable[[Entered], Entered]) -> Tensor:
    """Run a cell: each of three nodes sums edges from the states before it; the nodes are concatenated.

    The enters of all edges that read one state are one convolution, and so are the leaves of a node. This is exact.

    Args:
        s0, s1: (B, W, H, W'), the first two states.
        edges: modules with the 1x1 convolutions `enter`, W to C, and `leave`, C to W, by node and source.
        inner: what edges do in between, all at once whose sources are there: from maps (B, C, H, W') by edge to such.

    Returns:
        (B, 3W, H, W').
    """
    states = [s0, s1]
    mixed: Entered = {}
    for node in range(NUM_NODES):
        new = range(NUM_INPUTS) if node == 0 else [len(states) - 1]
        mixed |= inner({edge: x for source in new for edge, x in _enter(states[source], source, edges).items()})
        ends = [edge for edge in edges if edge[0] == node]
        convs = [edges[edge].leave for edge in ends]
        states.append(_leave([mixed[edge] for edge in ends], convs) if ends else torch.zeros_like(s1))
    return torch.cat(states[NUM_INPUTS:], dim=1)


def _enter(state: Tensor, source: int, edges: Mapping[Edge, nn.Module]) -> Entered:
    """Return what the edges that read a state make of it."""
    readers = [edge for edge in edges if edge[1] == source]
    if not readers:
        return {}
    convs = [edges[edge].enter for edge in readers]
    bias = None if convs[0].bias is None else torch.cat([conv.bias for conv in convs])
    maps = F.conv2d(state, torch.cat([conv.weight for conv in convs]), bias).chunk(len(convs), dim=1)
    return dict(zip(readers, maps, strict=True))


def _leave(mixed: list[Tensor], convs: list[nn.Conv2d]) -> Tensor:
    """Return the sum of what each convolution makes of its map."""
    bias = None if convs[0].bias is None else torch.stack([conv.bias for conv in convs]).sum(dim=0)
    return F.conv2d(torch.cat(mixed, dim=1), torch.cat([conv.weight for conv in convs], dim=1), bias)
