"""Searchable fusion network of one level: the supernet of NAS-DSF.

Every edge is a mixture of what its space allows ({none, skip} as published) and every inner step a mixture of all
fusion operations; the architecture logits are parameters named `alpha_*`. Both inputs of a node are the one mixture of
all states before it, as published, or one mixture each (`CellSpace.pair_inputs`), as the found network has it
(found.py). A supernet can also run as the found network of one genotype, on its own weights (`path`).

Partial channels (PC-DARTS, 1907.05737): mixtures act on the first C / `partial` channels, the others pass by, and
channels are shuffled; each edge of a node has a further weight, a softmax over the node's edges.

Shapes: states (B, C, H, W); B batch, C channels; P mixtures per node (1 or 2), E edges, O operations, S steps, K inner
steps of a node.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import MAPS, SEQUENCES, SKIP
from models.search.fusion_cells.found import FoundFusion, add_node_output, add_output, normed_concat
from models.search.fusion_cells.genotype import CellGenotype
from models.search.fusion_cells.layers import conv_of_concat
from models.search.fusion_cells.operations import EDGE_OPS, fusion_op
from models.search.relaxations import EVALUATION, RELAXATIONS, Stage
from utils.errors import UserError

Made = dict[tuple[int, int], Tensor]  # by state and operation


class Weights(NamedTuple):
    """Relaxed logits: edges (P, E, O), inner edges (S, P, E', 2), operations (S, K, O)."""

    edges: Tensor
    inner_edges: Tensor
    ops: Tensor


class SearchableNode(nn.Module):
    """Mix fusion operations over inner states x, y and the inner steps before."""

    def __init__(self, space: CellSpace, dropout: float, partial: int = 1):
        super().__init__()
        self.num_out, self.mixed = space.node_multiplier, space.channels // partial
        self.relu = space.rank == SEQUENCES
        mixed = space.features._replace(channels=self.mixed)
        self.steps = nn.ModuleList(
            nn.ModuleList(fusion_op(name, mixed, dropout) for name in space.op_names) for _ in range(space.node_steps)
        )
        add_node_output(self, space.features, self.num_out, dropout)

    def forward(
        self, x: Tensor, y: Tensor, edge_weights: Tensor, op_weights: Tensor, state_weights: Tensor | None, drawn: bool
    ) -> Tensor:
        """Mix.

        Args:
            x, y: (B, C, H, W) or (B, C, L).
            edge_weights: (P, E', 2).
            op_weights: (K, O).
            state_weights: (P, E') under partial channels.
            drawn: operations of weight 0 were not drawn and do not run.

        Returns:
            As x.
        """
        states, edge = [x, y], 0
        for ops, weights in zip(self.steps, op_weights, strict=True):
            rows = slice(edge, edge + len(states))
            edge += len(states)
            row_weights = None if state_weights is None else state_weights[:, rows]
            pair = mix_skips(states, edge_weights[:, rows], row_weights, self.mixed)
            states.append(self._mix(ops, weights, pair[0], pair[-1], drawn))
        out = states[-1]
        if self.num_out > 1:
            out = self.out_bn(conv_of_concat(self.out_conv, states[-self.num_out :]))
            out = self.dropout(torch.relu(out) if self.relu else out)
        return self.bn(out + x)

    def _mix(self, ops: nn.ModuleList, weights: Tensor, a: Tensor, b: Tensor, drawn: bool) -> Tensor:
        first = a[:, : self.mixed]
        second = first if b is a else b[:, : self.mixed]
        runs = running(weights, drawn)
        mixed = sum(w * op(first, second) for w, op, run in zip(weights, ops, runs, strict=True) if run)
        return mixed if self.mixed == a.shape[1] else concat_shuffled(mixed, (a if b is a else a + b)[:, self.mixed :])


class SearchableFusion(nn.Module):
    """Supernet of one level: F maps to one.

    Args:
        space: sizes of the search space.
        dropout: probability inside the nodes.
        relaxation: name in RELAXATIONS of what turns logits (..., O) into mixture weights (..., O).
        partial: mixtures act on one in `partial` channels.
    """

    mask_edges: Tensor
    mask_ops: Tensor

    def __init__(self, space: CellSpace, dropout: float = 0.0, relaxation: str = "softmax", partial: int = 1):
        super().__init__()
        if space.channels % (2 * partial) and partial > 1:
            raise UserError(f"C: expected a multiple of {2 * partial} for partial channels, found {space.channels}")
        self.space, self.dropout, self.partial = space, dropout, partial
        self.relaxation, self.draws = RELAXATIONS[relaxation], relaxation == "gumbel"
        self.mixed = space.channels // partial  # channels that are mixed
        self.stage: Stage = EVALUATION
        self.width, self.reads = space.multiplier, set(range(space.num_inputs))  # as of FoundFusion
        self._path: list[FoundFusion] = []  # a list, so that its modules are not registered twice
        self.nodes = nn.ModuleList(SearchableNode(space, dropout, partial) for _ in range(space.steps))
        add_output(self, space.features, space.multiplier)
        ports = (2,) if space.pair_inputs else ()
        edges, inner_edges = (*ports, sum(space.edges_per_step)), (*ports, sum(space.inner_edges_per_step))
        self.alpha_edges = _logits(*edges, len(space.edge_ops))
        self.alpha_inner_edges = _logits(space.steps, *inner_edges, 2)
        self.alpha_ops = _logits(space.steps, space.node_steps, len(space.op_names))
        # Added to the logits: minus infinity where selection has removed an alternative.
        mask_edges = torch.zeros(space.ports, *self.alpha_edges.shape[-2:])
        self.register_buffer("mask_edges", mask_edges, persistent=False)
        self.register_buffer("mask_ops", torch.zeros_like(self.alpha_ops.detach()), persistent=False)
        if partial > 1:
            self.alpha_states = _logits(*edges)
            self.alpha_inner_states = _logits(space.steps, *inner_edges)
        learned = space.learned_edges
        # One list per state, for all steps that read it: each learns often and runs once. None if none can learn.
        count = space.num_inputs + space.steps - 1 if learned else 0
        self.edges = nn.ModuleList(nn.ModuleList(EDGE_OPS[name](self.mixed) for name in learned) for _ in range(count))

    def weights(self, double: bool = False, stage: Stage | None = None) -> Weights:
        """Return the relaxed logits.

        Args:
            double: detached, in float64 on the CPU, for derivation.
            stage: of the search; None: the present one.
        """
        space, stage = self.space, stage or self.stage

        def relax(alpha: Tensor) -> Tensor:
            return self.relaxation(alpha.detach().cpu().double() if double else alpha, stage)

        edges = relax(self.alpha_edges.reshape(self.mask_edges.shape) + self.mask_edges)
        inner = relax(self.alpha_inner_edges).reshape(space.steps, space.ports, -1, 2)
        return Weights(edges, inner, relax(self.alpha_ops + self.mask_ops))

    def state_weights(self, double: bool = False) -> tuple[Tensor, Tensor]:
        """Return the weights of states under partial channels: (P, E) and (S, P, E'), summing to 1 per node."""
        space = self.space

        def softmax_per_node(alpha: Tensor, sizes: list[int]) -> Tensor:
            alpha = alpha.detach().cpu().double() if double else alpha
            return torch.cat([part.softmax(dim=-1) for part in alpha.split(sizes, dim=-1)], dim=-1)

        outer = softmax_per_node(self.alpha_states, space.edges_per_step)
        inner = softmax_per_node(self.alpha_inner_states, space.inner_edges_per_step)
        return outer.reshape(space.ports, -1), inner.reshape(space.steps, space.ports, -1)

    def forward(self, inputs: list[Tensor] | Tensor) -> Tensor:
        """Fuse F features, a list of (B, C, H, W) or (B, C, L), or one tensor of them stacked.

        Returns:
            (B, C, H, W), or (B, multiplier x C, L).
        """
        if self._path:
            return self._path[0](inputs)
        (edges, inner, ops), size = self.weights(), self.space.edges_per_step
        of_node = edges.split(size, dim=1)
        state_weights = inner_state_weights = [None] * len(self.nodes)
        if self.partial > 1:
            outer, inner_state_weights = self.state_weights()
            state_weights = outer.split(size, dim=1)
        from_inputs = self._from_inputs(inputs, of_node, state_weights)
        states, made, drawn = list(inputs), {}, self.draws and self.stage.learning != ""
        for i, node in enumerate(self.nodes):
            pair = from_inputs[i]
            if i:
                earlier = slice(len(inputs), None)
                step_weights = None if state_weights[i] is None else state_weights[i][:, earlier]
                later = mix_skips(states[earlier], of_node[i][:, earlier], step_weights, self.mixed)
                pair = [u + more for u, more in zip(pair, later, strict=True)]
            if len(self.edges):
                weights = of_node[i] if self.partial == 1 else of_node[i] * state_weights[i][..., None]
                pair = self._add_convs(pair, states, weights, made, drawn)
            states.append(node(pair[0], pair[-1], inner[i], ops[i], inner_state_weights[i], drawn))
        last = states[-self.space.multiplier :]
        return conv_of_concat(self.out_conv, last) if self.space.rank == MAPS else normed_concat(self.out_norm, last)

    def _from_inputs(
        self, inputs: list[Tensor] | Tensor, of_node: tuple[Tensor, ...], state_weights: list[Tensor | None]
    ) -> list[list[Tensor]]:
        """Return, per step, the P sums of the inputs by their skip weights: one matrix product for all."""
        num, ports = len(inputs), self.space.ports
        rows = torch.stack([weights[:, :num, SKIP] for weights in of_node]).flatten(0, 1)  # (S P, F)
        if self.partial == 1:
            mixed = mix_all(inputs, rows)
        else:
            by_edge = torch.stack([weights[:, :num] for weights in state_weights]).flatten(0, 1)
            fronts = mix_all([state[:, : self.mixed] for state in inputs], rows * by_edge)
            backs = mix_all([state[:, self.mixed :] for state in inputs], by_edge)
            mixed = [concat_shuffled(*both) for both in zip(fronts, backs, strict=True)]
        return [mixed[i : i + ports] for i in range(0, len(mixed), ports)]

    def _add_convs(
        self, pair: list[Tensor], states: list[Tensor], weights: Tensor, made: Made, drawn: bool
    ) -> list[Tensor]:
        """Add what the learned operations of a step's edges make of its states.

        Args:
            weights: (P, edges of the step, O).
            made: what operations have made of states in earlier steps, by state and operation; added to.
        """
        runs, more = [running(port, drawn) for port in weights], [[] for _ in pair]
        for j, state in enumerate(states):
            for o, op in enumerate(self.edges[j], start=SKIP + 1):
                used = [p for p in range(len(pair)) if runs[p][j][o]]
                if used and (j, o) not in made:
                    made[j, o] = op(state[:, : self.mixed])
                for p in used:
                    more[p].append(weights[p, j, o] * made[j, o])
        return [u + self._widened(sum(terms)) if terms else u for u, terms in zip(pair, more, strict=True)]

    def _widened(self, front: Tensor) -> Tensor:
        """Return a sum on the mixed channels as one on all, 0 where nothing was mixed."""
        if self.partial == 1:
            return front
        return concat_shuffled(front, front.new_zeros(len(front), self.space.channels - self.mixed, *front.shape[2:]))

    def path(self, cell: CellGenotype) -> FoundFusion:
        """Return the found network of a cell of this space; its modules are the supernet's own.

        Raises:
            UserError: the supernet's operations see a part of the channels only, so they are not the found network's.
        """
        if self.partial > 1:
            raise UserError("partial channels: expected whole operations to inherit, found those of a part of C")
        with torch.device("meta"):  # nothing is allocated or drawn
            found = FoundFusion(cell, self.space.features, self.dropout)
        _share(self, found, "out_conv", "out_norm")
        for i, (ours, node, step) in enumerate(zip(self.nodes, found.nodes, cell.steps, strict=True)):
            for port, (name, state) in enumerate(cell.edges[2 * i : 2 * i + 2]):
                if name != "skip":
                    found.edges[2 * i + port] = self.edges[state][self.space.edge_ops.index(name) - SKIP - 1]
            ops = [self.space.op_names.index(name) for name in step.inner_steps]
            node.ops = nn.ModuleList(candidates[op] for candidates, op in zip(ours.steps, ops, strict=True))
            _share(ours, node, "bn", "out_conv", "out_bn")
        return found.train(self.training)

    def activate(self, cell: CellGenotype | None) -> None:
        """Run as the found network of a cell from now on; None: as the mixture again."""
        self._path = [self.path(cell)] if cell else []

    def train(self, mode: bool = True) -> "SearchableFusion":
        super().train(mode)
        for found in self._path:
            found.train(mode)
        return self


def _share(source: nn.Module, target: nn.Module, *names: str) -> None:
    """Make modules of the source, those that it has, modules of the target as well."""
    for name in names:
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def running(weights: Tensor, drawn: bool) -> list:
    """Tell which operations run, as nested lists: all, or those that were drawn, the others having a weight of 0."""
    if drawn:
        return (weights.detach() != 0).tolist()
    return [running(row, False) for row in weights] if weights.dim() > 1 else [True] * len(weights)


def mix_skips(
    states: list[Tensor], weights: Tensor, state_weights: Tensor | None = None, width: int = 0
) -> list[Tensor]:
    """Sum the states by each of P sets of skip weights; the weight of `none` counts for nothing.

    Args:
        states: (B, C, H, W) each.
        weights: (P, len(states), O).
        state_weights: (P, len(states)) under partial channels, of which the first `width` are mixed.
    """
    if state_weights is None:
        return [sum(w * state for w, state in zip(port[:, SKIP], states, strict=True)) for port in weights]
    rows = zip((weights[..., SKIP] * state_weights), state_weights, strict=True)
    return [
        concat_shuffled(
            sum(w * state[:, :width] for w, state in zip(front, states, strict=True)),
            sum(w * state[:, width:] for w, state in zip(back, states, strict=True)),
        )
        for front, back in rows
    ]


def concat_shuffled(front: Tensor, back: Tensor) -> Tensor:
    """Concatenate mixed channels and those that passed by, and shuffle them, so that the next mixture sees others."""
    both = torch.cat((front, back), dim=1)
    return both.unflatten(1, (both.shape[1] // front.shape[1], front.shape[1])).transpose(1, 2).flatten(1, 2)


def mix_all(states: list[Tensor] | Tensor, weights: Tensor) -> list[Tensor]:
    """Sum the states by each of N sets of weights (N, len(states)), in one matrix product."""
    # Channels are last in memory, so that nothing is copied but the states of a list into one tensor.
    stacked = states.movedim(2, -1) if isinstance(states, Tensor) else torch.stack([s.movedim(1, -1) for s in states])
    mixed = weights @ stacked.flatten(1)  # (N, B H W C)
    return [sums.movedim(-1, 1) for sums in mixed.reshape(-1, *stacked.shape[1:])]


def _logits(*shape: int) -> nn.Parameter:
    return nn.Parameter(1e-3 * torch.randn(shape))
