"""The choices of a fusion supernet that selection by perturbation decides (2108.04392, algorithm 1).

First the operation of each inner step and the two states of each step; then what the edges of these states do, where
there is more than one operation. Inner edges are left to the logits.
"""

from collections.abc import Iterator

import torch

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import SKIP
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.space import Choice


def operations_and_states(fusion: SearchableFusion) -> Iterator[Choice]:
    """Yield the choice of the operation of each inner step, and of the states of each step."""
    ops = range(len(fusion.space.op_names))
    for step, edges in enumerate(_edges_of_inputs(fusion.space)):
        for k in range(fusion.space.node_steps):
            yield Choice(fusion.mask_ops, [(step, k, o) for o in ops], 1)
        yield Choice(fusion.mask_edges, [(slice(None), edge, slice(SKIP, None)) for edge in edges], 2)


def edges_of_states(fusion: SearchableFusion) -> Iterator[Choice]:
    """Yield the choice of what each edge does whose state was kept."""
    ops = range(SKIP, len(fusion.space.edge_ops))
    for edge in [edge for edges in _edges_of_inputs(fusion.space) for edge in edges if len(ops) > 1]:
        if not torch.isinf(fusion.mask_edges[:, edge, SKIP:]).all():
            yield Choice(fusion.mask_edges, [(slice(None), edge, o) for o in ops], 1)


def _edges_of_inputs(space: CellSpace) -> list[range]:
    """Return, for each step, the numbers of its edges that read inputs of the cell."""
    firsts = [sum(space.edges_per_step[:step]) for step in range(space.steps)]
    return [range(first, first + space.num_inputs) for first in firsts]
