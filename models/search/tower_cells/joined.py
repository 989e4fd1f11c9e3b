"""How mixed edges run: those that run at the same time and have the same operations as one, by grouped convolutions.

This is exact. It pays where maps are small and the time goes into calls: a cell then has three runs of the layers, of
6, 2 and 1 edges, in place of nine. Large maps are joined up to the size that the caches of a processor hold.

Shapes: maps (B, C, H, W), joined ones (B, N * C, H, W); N edges, C inner channels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.search.tower_cells.layers import DepthwiseConv, Edge, MixedEdge, all_prefixes, depthwise
from models.search.tower_cells.operations import Chain

Weights = Mapping[Chain, Tensor | float]  # of the operations that run, not below 0
Step = Callable[[Tensor], Tensor]
MOST_VALUES = 2**20  # of joined maps


def joinable(entered: Mapping[Edge, Tensor], mixtures: Mapping[Edge, Weights]) -> Iterator[list[Edge]]:
    """Yield edges that may run as one: with the same operations, and maps that are not too large together."""
    alike: dict[tuple[Chain, ...], list[Edge]] = {}
    for edge in entered:
        alike.setdefault(tuple(mixtures[edge]), []).append(edge)
    for edges in alike.values():
        count = max(MOST_VALUES // entered[edges[0]].numel(), 1)
        yield from (edges[start : start + count] for start in range(0, len(edges), count))


class JoinedEdges:
    """Edges with the same operations: each sums those of its map by its weights.

    Args:
        edges: modules.
        rows: weights of each edge, all of the same chains; only the layers that these need run.
    """

    def __init__(self, edges: Sequence[MixedEdge], rows: Sequence[Weights]):
        self.count, prefixes = len(edges), all_prefixes(rows[0])
        begun = {prefix[:-1] for prefix in prefixes}
        self.layers: dict[Chain, list[Step]] = {}
        self.terms: dict[Chain, list[Step]] = {}
        for prefix in prefixes:
            key, of_last_norm = "_".join(prefix), None
            if prefix in rows[0]:
                weights = [row[prefix] for row in rows]
                if key in edges[0].decouple:
                    convs = [edge.decouple[key].weight for edge in edges]
                    kernel = torch.cat([weight * conv for weight, conv in zip(weights, convs, strict=True)])
                    self.terms[prefix] = [partial(F.conv2d, weight=kernel, groups=self.count)]
                elif (scale := _scale(weights, edges[0].enter.out_channels)) is None or prefix not in begun:
                    self.terms[prefix], of_last_norm = [], scale
                else:
                    self.terms[prefix] = [partial(torch.mul, scale[:, None, None])]
            layers = zip(*(edge.layers[key] for edge in edges), strict=True)
            self.layers[prefix] = [_joined(modules, of_last_norm) for modules in layers]

    def __call__(self, maps: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return what each edge makes of its map."""
        made = {(): torch.cat(list(maps), dim=1)}
        for prefix, steps in self.layers.items():
            made[prefix] = _run(steps, made[prefix[:-1]])
        return sum(_run(steps, made[chain]) for chain, steps in self.terms.items()).chunk(self.count, dim=1)


def _run(steps: list[Step], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x


def _scale(weights: Sequence[Tensor | float], channels: int) -> Tensor | None:
    """Return the weights (N * C) of the channels of joined maps; None where they are the number 1."""
    if not isinstance(weights[0], Tensor):
        return None
    return torch.stack(list(weights)).repeat_interleave(channels)


def _joined(modules: Sequence[nn.Module], scale: Tensor | None) -> Step:
    """Return a layer of N edges as one step; what a norm gives, and ReLU behind it, is multiplied by `scale`."""
    first = modules[0]
    if not isinstance(first, nn.Conv2d | nn.GroupNorm):
        return first
    weight = torch.cat([module.weight for module in modules])
    bias = None if first.bias is None else torch.cat([module.bias for module in modules])
    if isinstance(first, nn.GroupNorm):
        if scale is not None:
            weight, bias = scale * weight, scale * bias
        return lambda x: torch.group_norm(x, len(modules) * first.num_groups, weight, bias, first.eps)
    if isinstance(first, DepthwiseConv):
        return lambda x: depthwise(x, weight, bias, first.dilation[0])
    return lambda x: F.conv2d(x, weight, bias, padding=first.padding, groups=len(modules))
