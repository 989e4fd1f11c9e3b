"""Searchable tower: the supernet of FAD (2007.12075, sections 3.2 and 3.3), one cell of mixed edges.

An edge mixes all operations of the space and `none`, which has no output; their weights are one row of the logits. A
supernet can also run as one genotype on its own weights (`active`), decoupling included.

Shapes: maps (B, W, H, W'), logits (E, 1 + O); B batch, W outer channels, E = 9 edges by node and source, O operations,
`none` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.search.fusion_cells.supernet import running
from models.search.relaxations import EVALUATION, RELAXATIONS, Stage
from models.search.tower_cells.genotype import TowerCell
from models.search.tower_cells.joined import JoinedEdges, Weights, joinable
from models.search.tower_cells.layers import Edge, Entered, MixedEdge, run_cell
from models.search.tower_cells.operations import CHAINS, EDGES, SPACES
from utils.errors import UserError

if TYPE_CHECKING:
    from models.search.tower_cells.space import TowerSpace

Mixtures = Mapping[Edge, Weights]


class TowerSupernet(nn.Module):
    """Supernet of one tower: two maps to one of three times their channels.

    Args:
        space: names the operations.
        width: W, of both inputs.
        channels: C, inside of the edges.
        decouple: False: the control without decoupling.
        relaxation: name in RELAXATIONS of what turns logits (..., O) into mixture weights (..., O).
        partial: mixtures act on one in `partial` channels; only 1 is supported.

    Raises:
        UserError: partial channels are asked for.
    """

    mask_edges: Tensor

    def __init__(
        self,
        space: TowerSpace,
        width: int,
        channels: int,
        decouple: bool = True,
        relaxation: str = "softmax",
        partial: int = 1,
    ):
        super().__init__()
        if partial > 1:
            raise UserError("--strategy pcdarts: expected another strategy for towers, which mix all channels")
        self.space, self.active = space, None
        self.relaxation, self.draws = RELAXATIONS[relaxation], relaxation == "gumbel"
        self.stage: Stage = EVALUATION
        self.chains = [CHAINS[name] for name in SPACES[space.name]]
        self.edges = nn.ModuleList(MixedEdge(self.chains, width, channels, decouple) for _ in EDGES)
        self.alpha_edges = nn.Parameter(1e-3 * torch.randn(len(EDGES), 1 + len(self.chains)))
        # Added to the logits: minus infinity where selection has removed an alternative.
        self.register_buffer("mask_edges", torch.zeros_like(self.alpha_edges.detach()), persistent=False)

    def logits(self) -> Tensor:
        """Return the logits (E, 1 + O), minus infinity where selection has removed an alternative."""
        return self.alpha_edges + self.mask_edges

    def weights(self, double: bool = False, stage: Stage | None = None) -> Tensor:
        """Return the relaxed logits (E, 1 + O).

        Args:
            double: detached, in float64 on the CPU, for derivation.
            stage: of the search; None: the present one.
        """
        logits = self.logits().detach().cpu().double() if double else self.logits()
        return self.relaxation(logits, stage or self.stage)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Return (B, 3W, H, W') of two maps (B, W, H, W')."""
        return self.over_levels([s0], [s1])[0]

    def over_levels(self, firsts: list[Tensor], seconds: list[Tensor]) -> list[Tensor]:
        """Return the output for each level of a pyramid, lists of s0 and s1; all by the same weights, drawn once."""
        mixtures = self._mixtures()
        edges = {edge: module for edge, module in zip(EDGES, self.edges, strict=True) if edge in mixtures}

        @cache
        def joined(*names: Edge) -> JoinedEdges:
            return JoinedEdges([edges[name] for name in names], [mixtures[name] for name in names])

        def inner(entered: Entered) -> Entered:
            mixed: Entered = {}
            for names in joinable(entered, mixtures):
                maps = joined(*names)([entered[name] for name in names])
                mixed |= zip(names, maps, strict=True)
            return mixed

        return [run_cell(s0, s1, edges, inner) for s0, s1 in zip(firsts, seconds, strict=True)]

    def _mixtures(self) -> Mixtures:
        """Return the weights of the operations that run, by edge: all, those that were drawn, or the active cell's."""
        if self.active is not None:
            return {edge: {CHAINS[name]: 1.0} for edge, (name, _) in zip(self.active.ends, self.active.edges)}
        weights = self.weights()
        runs = running(weights, self.draws and self.stage.learning != "")
        rows = {
            edge: {chain: w for chain, w, run in list(zip(self.chains, row[1:], of_edge[1:])) if run}
            for edge, row, of_edge in zip(EDGES, weights, runs, strict=True)
        }
        return {edge: row for edge, row in rows.items() if row}

    def activate(self, cell: TowerCell | None) -> None:
        """Run as a cell from now on; None: as the mixture again."""
        self.active = cell
