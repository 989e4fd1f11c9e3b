"""The choices of a fusion supernet that selection by perturbation decides (2108.04392, algorithm 1).

First the operation of each inner step and the two states of each step; then what the edges of these states do, where
there is more than one operation. Inner edges are left to the logits.
"""

from collections.abc import Iterator

import torch

from models.search.fusion_cells.choices import SKIP
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.space import Choice


def operations_and_states(fusion: SearchableFusion) -> Iterator[Choice]:
    """Yield the choice of the operation of each inner step, and of the states of each step."""
    space, first = fusion.space, 0
    for step in range(space.steps):
        for k in range(space.node_steps):
            yield Choice(fusion.mask_ops, [(step, k, o) for o in range(len(space.op_names))], 1)
        states = [(slice(None), first + j, slice(SKIP, None)) for j in range(space.num_inputs)]
        yield Choice(fusion.mask_edges, states, 2)
        first += space.num_inputs + step


def edges_of_states(fusion: SearchableFusion) -> Iterator[Choice]:
    """Yield the choice of what each edge does whose state was kept."""
    space, first = fusion.space, 0
    names = range(SKIP, len(space.edge_ops))
    for step in range(space.steps):
        edges = [first + j for j in range(space.num_inputs)]
        for edge in edges if len(names) > 1 else []:
            if not torch.isinf(fusion.mask_edges[:, edge, SKIP:]).all():
                yield Choice(fusion.mask_edges, [(slice(None), edge, o) for o in names], 1)
        first += space.num_inputs + step
