"""Searchable fusion network of one level: the supernet of NAS-DSF.

Every edge is a mixture of {none, skip} and every inner step a mixture of all fusion operations; the architecture
logits are parameters named `alpha_*`. Both inputs of a node are the one mixture of all states before it, as published
(the found network has two: found_cells.py).

Shapes: states (B, C, H, W); B batch, C channels; E edges, O operations, S steps, K inner steps of a node.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.search.genotypes import Space
from models.search.operations import EDGE_OPS, FUSION_OPS, SKIP, conv_of_concat
from models.search.relaxations import softmax


class SearchableNode(nn.Module):
    """Mix fusion operations over inner states x, y and the inner steps before."""

    def __init__(self, space: Space, dropout: float):
        super().__init__()
        self.num_out = space.node_multiplier
        ops = FUSION_OPS[space.rank]
        self.steps = nn.ModuleList(
            nn.ModuleList(op(space.channels) for op in ops.values()) for _ in range(space.node_steps)
        )
        if self.num_out > 1:
            self.out_conv = nn.Conv2d(self.num_out * space.channels, space.channels, 1)
            self.out_bn = nn.BatchNorm2d(space.channels)
            self.dropout = nn.Dropout(dropout)
        self.bn = nn.BatchNorm2d(space.channels)

    def forward(self, x: Tensor, y: Tensor, edge_weights: Tensor, op_weights: Tensor) -> Tensor:
        """Args: x, y (B, C, H, W); edge_weights (E, 2); op_weights (K, O). Returns (B, C, H, W)."""
        states, edge = [x, y], 0
        for ops, weights in zip(self.steps, op_weights, strict=True):
            v = mix_skips(states, edge_weights[edge : edge + len(states)])
            edge += len(states)
            states.append(sum(w * op(v, v) for w, op in zip(weights, ops, strict=True)))
        out = states[-1]
        if self.num_out > 1:
            out = self.dropout(self.out_bn(conv_of_concat(self.out_conv, states[-self.num_out :])))
        return self.bn(out + x)


class SearchableFusion(nn.Module):
    """Supernet of one level: F maps to one.

    Args:
        space: sizes of the search space.
        dropout: probability inside the nodes.
        relaxation: logits (..., O) to mixture weights (..., O).
    """

    def __init__(self, space: Space, dropout: float = 0.0, relaxation: Callable[[Tensor], Tensor] = softmax):
        super().__init__()
        self.space = space
        self.relaxation = relaxation
        self.nodes = nn.ModuleList(SearchableNode(space, dropout) for _ in range(space.steps))
        self.out_conv = nn.Conv2d(space.multiplier * space.channels, space.channels, 1)
        self.alpha_edges = _logits(space.num_edges, len(EDGE_OPS))
        self.alpha_inner_edges = _logits(space.steps, space.num_inner_edges, len(EDGE_OPS))
        self.alpha_ops = _logits(space.steps, space.node_steps, len(space.op_names))

    def forward(self, inputs: list[Tensor] | Tensor) -> Tensor:
        """Fuse F maps (B, C, H, W), a list or one tensor (F, B, C, H, W), into one of that shape."""
        edges, inner, ops = (self.relaxation(a) for a in (self.alpha_edges, self.alpha_inner_edges, self.alpha_ops))
        of_node = edges.split([len(inputs) + i for i in range(len(self.nodes))])
        from_inputs = mix_all(inputs, torch.stack([weights[: len(inputs)] for weights in of_node]))
        states = []
        for node, u, weights, *own in zip(self.nodes, from_inputs, of_node, inner, ops, strict=True):
            if states:
                u = u + mix_skips(states, weights[len(inputs) :])
            states.append(node(u, u, *own))
        states = [*inputs, *states][-self.space.multiplier :]
        return conv_of_concat(self.out_conv, states)


def mix_skips(states: list[Tensor], weights: Tensor) -> Tensor:
    """Sum the states by their skip weights (len(states), 2); the share of `none` is lost."""
    return sum(w * state for w, state in zip(weights[:, SKIP], states, strict=True))


def mix_all(states: list[Tensor] | Tensor, weights: Tensor) -> list[Tensor]:
    """Sum the states by each of S sets of skip weights (S, len(states), 2), in one matrix product."""
    # Channels are last in memory, so that nothing is copied but the states of a list into one tensor.
    stacked = states.movedim(2, -1) if isinstance(states, Tensor) else torch.stack([s.movedim(1, -1) for s in states])
    mixed = weights[..., SKIP] @ stacked.flatten(1)  # (S, B H W C)
    return [one.movedim(-1, 1) for one in mixed.reshape(-1, *stacked.shape[1:])]


def _logits(*shape: int) -> nn.Parameter:
    return nn.Parameter(1e-3 * torch.randn(shape))
