"""Derivation: from the logits of a supernet to a genotype, and what the logits say on the way. Deterministic.

The only reader of logits outside the supernet itself. Steps (NAS-DSF, after DARTS 1806.09055 section 2.4):
outer steps take the pair of inputs with the largest product of best non-none weights, at least one of the two not
taken before; inner steps the two inner states with the largest best non-none weight and the best operation.

Shapes: E edges, O operations, S steps, K inner steps.
"""

from collections import Counter
from itertools import combinations

import torch
from torch import Tensor

from models.search.cells import SearchableFusion
from models.search.genotypes import CellGenotype, Edge, Genotype, Space, StepGenotype
from models.search.operations import EDGE_OPS


def derive(fusions: list[SearchableFusion], inputs: tuple[str, ...], levels: tuple[str, ...], meta: dict) -> Genotype:
    """Return the genotype of one supernet per level."""
    cells = tuple(derive_cell(*mixture_weights(f), f.space) for f in fusions)
    return Genotype(tuple(inputs), tuple(levels), fusions[0].space.channels, cells, meta)


def mixture_weights(fusion: SearchableFusion) -> tuple[Tensor, Tensor, Tensor]:
    """Return the relaxed logits in float64: edges (E, 2), inner edges (S, E', 2), operations (S, K, O)."""
    logits = (fusion.alpha_edges, fusion.alpha_inner_edges, fusion.alpha_ops)
    return tuple(fusion.relaxation(a.detach().cpu().double()) for a in logits)


def derive_cell(edges: Tensor, inner_edges: Tensor, ops: Tensor, space: Space) -> CellGenotype:
    """Return the cell of relaxed weights: edges (E, 2), inner_edges (S, E', 2), ops (S, K, O)."""
    kept, used, first = [], set(), 0
    for i in range(space.steps):
        rows = edges[first : first + space.num_inputs]  # earlier steps' outputs are not candidates
        pair = _best_pair(rows, used)
        used |= set(pair)
        kept += [_keep(rows, j) for j in pair]
        first += space.num_inputs + i
    steps = tuple(_derive_step(e, o, space) for e, o in zip(inner_edges, ops, strict=True))
    return CellGenotype(tuple(kept), steps, space.concat)


def _best_pair(rows: Tensor, used: set[int]) -> tuple[int, int]:
    best = _non_none(rows).tolist()
    free = [p for p in combinations(range(len(best)), 2) if not set(p) <= used]
    return max(free, key=lambda p: best[p[0]] * best[p[1]])  # max keeps the first of equals: lexicographic order


def _derive_step(edges: Tensor, ops: Tensor, space: Space) -> StepGenotype:
    kept, first = [], 0
    for k in range(space.node_steps):
        rows = edges[first : first + 2 + k]
        best = _non_none(rows).tolist()
        order = sorted(range(len(best)), key=lambda j: -best[j])  # stable: lowest index on a tie
        kept += [_keep(rows, j) for j in order[:2]]
        first += 2 + k
    names = tuple(space.op_names[row.index(max(row))] for row in ops.tolist())
    return StepGenotype(tuple(kept), names, space.inner_concat)


def _non_none(rows: Tensor) -> Tensor:
    return rows[:, 1:].amax(dim=1)  # column 0 is `none`


def _keep(rows: Tensor, edge: int) -> Edge:
    return EDGE_OPS[1 + int(rows[edge, 1:].argmax())], edge


def operation_counts(genotype: Genotype) -> dict[str, int]:
    """Count the fusion operations over all levels and steps."""
    return dict(Counter(op for cell in genotype.cells for step in cell.steps for op in step.inner_steps))


def mean_entropy(fusions: list[SearchableFusion]) -> dict[str, float]:
    """Return the mean entropy in nats of the rows of each kind of weights, over all levels."""
    kinds = zip(*(mixture_weights(f) for f in fusions), strict=True)
    names = ("edges", "inner_edges", "ops")
    return {
        f"entropy_{name}": float(torch.cat([torch.special.entr(w).sum(-1).flatten() for w in kind]).mean())
        for name, kind in zip(names, kinds, strict=True)
    }


def describe(fusions: list[SearchableFusion], genotype: Genotype) -> dict[str, float | int | str]:
    """Return what the logits say now, flat: entropies, counts of the arg-max operations, and the arg-max in words."""
    counts = {f"count_{op}": operation_counts(genotype).get(op, 0) for op in fusions[0].space.op_names}
    return mean_entropy(fusions) | counts | {"genotype": genotype.id, "argmax": in_words(genotype)}


def in_words(genotype: Genotype) -> str:
    """Return the genotype in one line: per level, the two states that each step reads and its operations."""
    levels = []
    for level, cell in zip(genotype.levels, genotype.cells, strict=True):
        pairs = [f"{cell.edges[2 * i][1]}+{cell.edges[2 * i + 1][1]}" for i in range(len(cell.steps))]
        steps = [f"{pair} {'/'.join(s.inner_steps)}" for pair, s in zip(pairs, cell.steps, strict=True)]
        levels.append(f"{level}: {', '.join(steps)}")
    return "; ".join(levels)
