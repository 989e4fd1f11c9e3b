"""The layers of towers, and the shared edge of the supernet: representation sharing of FAD (2007.12075, section 3.3).

Shapes: maps (B, C, H, W); B batch, C inner channels, W outer channels of a cell.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.search.tower_cells.operations import NUM_INPUTS, NUM_NODES, Chain

MOST_GROUPS = 32  # of a norm, as published; fewer where 32 does not divide the channels
DILATIONS = {"sin": 1, "dil": 2, "dilr3": 3}  # of the depthwise convolutions
Edge = tuple[int, int]  # node and source


class GroupNorm(nn.GroupNorm):
    """A group norm that also takes one image whose groups hold one value; torch's refuses it, but not two images."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a norm of 32 groups, or of the largest power of two that divides the channels."""
    return GroupNorm(math.gcd(MOST_GROUPS, channels), channels)


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
        layer.depth = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=bias)
        layer.point = nn.Conv2d(channels, channels, 1)
    layer.norm = group_norm(channels)
    layer.relu = nn.ReLU(inplace=True)
    return layer


class MixedEdge(nn.Module):
    """All operations of an edge, on shared layers: a layer serves every operation whose chain begins alike.

    The output of a layer that further layers read passes a 1x1 convolution of its own before it is mixed
    ("decoupling"); the chain goes on from the layer itself.

    Args:
        chains: of the operations.
        width: W.
        channels: C.
        decouple: False leaves these convolutions out.
    """

    def __init__(self, chains: Sequence[Chain], width: int, channels: int, decouple: bool = True):
        super().__init__()
        prefixes = dict.fromkeys(chain[:end] for chain in chains for end in range(1, len(chain) + 1))
        longer = {prefix[:-1] for prefix in prefixes if decouple}
        self.enter = nn.Conv2d(width, channels, 1, bias=False)
        self.layers = nn.ModuleDict({"_".join(prefix): make_layer(prefix[-1], channels) for prefix in prefixes})
        self.decouple = nn.ModuleDict(
            {"_".join(c): nn.Conv2d(channels, channels, 1, bias=False) for c in chains if c in longer}
        )
        self.leave = nn.Conv2d(channels, width, 1, bias=False)

    def forward(self, x: Tensor, weights: Mapping[Chain, Tensor | float]) -> Tensor:
        """Sum the operations by their weights; only the layers that these operations need run.

        Args:
            x: (B, C, H, W), what `enter` makes of a state.
            weights: by chain.
        """
        made, terms = {(): x}, []
        for chain, weight in weights.items():
            for end in range(1, len(chain) + 1):
                if chain[:end] not in made:
                    made[chain[:end]] = self.layers["_".join(chain[:end])](made[chain[: end - 1]])
            key = "_".join(chain)
            if key in self.decouple:
                terms.append(F.conv2d(made[chain], weight * self.decouple[key].weight))
            else:
                terms.append(weight * made[chain])
        return sum(terms)


def run_cell(
    s0: Tensor, s1: Tensor, edges: Mapping[Edge, nn.Module], inner: Callable[[Edge, Tensor], Tensor]
) -> Tensor:
    """Run a cell: each of three nodes sums edges from the states before it; the nodes are concatenated.

    The enters of all edges that read one state are one convolution, and so are the leaves of a node. This is exact.

    Args:
        s0, s1: (B, W, H, W'), the first two states.
        edges: modules with the 1x1 convolutions `enter`, W to C, and `leave`, C to W, by node and source.
        inner: what an edge does in between: maps (B, C, H, W') to such.

    Returns:
        (B, 3W, H, W').
    """
    states: list[Tensor] = []
    entered: dict[Edge, Tensor] = {}
    for number in range(NUM_INPUTS + NUM_NODES):
        node = number - NUM_INPUTS
        if node < 0:
            state = (s0, s1)[number]
        else:
            mixed = {edge: inner(edge, entered[edge]) for edge in edges if edge[0] == node}
            state = (
                _leave(list(mixed.values()), [edges[edge].leave for edge in mixed]) if mixed else torch.zeros_like(s1)
            )
        states.append(state)
        readers = [edge for edge in edges if edge[1] == number]
        entered |= zip(readers, _enter(state, [edges[edge].enter for edge in readers]))
    return torch.cat(states[NUM_INPUTS:], dim=1)


def _enter(state: Tensor, convs: list[nn.Conv2d]) -> Sequence[Tensor]:
    """Return what each of the convolutions makes of a state."""
    if not convs:
        return ()
    bias = None if convs[0].bias is None else torch.cat([conv.bias for conv in convs])
    return F.conv2d(state, torch.cat([conv.weight for conv in convs]), bias).chunk(len(convs), dim=1)


def _leave(mixed: list[Tensor], convs: list[nn.Conv2d]) -> Tensor:
    """Return the sum of what each convolution makes of its map."""
    bias = None if convs[0].bias is None else torch.stack([conv.bias for conv in convs]).sum(dim=0)
    return F.conv2d(torch.cat(mixed, dim=1), torch.cat([conv.weight for conv in convs], dim=1), bias)
