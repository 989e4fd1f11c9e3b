"""Derivation: from the logits of a supernet to a genotype, and statistics of the logits. Deterministic.

The only reader of logits outside the supernet itself. Steps (NAS-DSF, after DARTS 1806.09055 section 2.4):
outer steps take the pair of inputs with the largest product of best non-none weights, at least one of the two not
taken before (or of inputs and earlier steps, no pair twice: `CellSpace.predecessors`); inner steps the two inner states
with the largest best non-none weight and the best operation. Where the supernet has one mixture per input of a node
(`CellSpace.pair_inputs`), the first of a pair is rated by the first mixture, the second by the second. Under partial
channels a weight counts times its edge's own (PC-DARTS, 1907.05737).

Shapes: P mixtures per node, E edges, O operations, S steps, K inner steps.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import torch
from torch import Tensor

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import INNER_EDGES
from models.search.fusion_cells.genotype import CellGenotype, Edge, Genotype, Names, StepGenotype
from models.search.fusion_cells.operations import is_parameter_free
from models.search.fusion_cells.supernet import SearchableFusion, Weights

Cells = tuple[CellGenotype, ...]  # by level
Pair = tuple[int, int]  # of states


def derive(
    fusions: list[SearchableFusion], inputs: Names, levels: Names, most_parameter_free: int | None = None
) -> Genotype:
    """Return the genotype of one supernet per level.

    Args:
        inputs: names of a cell's inputs.
        most_parameter_free: as in `cap_parameter_free`.
    """
    weights, space = [final_weights(f) for f in fusions], fusions[0].space
    cells = cap_parameter_free(tuple(derive_cell(w, space) for w in weights), weights, space, most_parameter_free)
    return Genotype(inputs, levels, space.channels, cells, space=space.name)


def final_weights(fusion: SearchableFusion) -> Weights:
    """Return what derivation goes by, in float64 on the CPU."""
    weights = fusion.weights(double=True)
    if fusion.partial == 1:
        return weights
    outer, inner = fusion.state_weights(double=True)
    return weights._replace(edges=weights.edges * outer[..., None], inner_edges=weights.inner_edges * inner[..., None])


def derive_cell(weights: Weights, space: CellSpace) -> CellGenotype:
    """Return the cell of relaxed logits."""
    kept, taken = [], []
    for i, rows in enumerate(weights.edges.split(space.edges_per_step, dim=1)):
        pair = _best_pair(rows[:, : space.candidates(i)], lambda states: space.allows(states, taken))
        taken.append(pair)
        kept += [_keep(rows[port], j, space.edge_ops) for port, j in zip((0, -1), pair, strict=True)]
    steps = tuple(_derive_step(e, o, space) for e, o in zip(weights.inner_edges, weights.ops, strict=True))
    return CellGenotype(tuple(kept), steps, space.concat)


def _best_pair(rows: Tensor, allowed: Callable[[Pair], bool] = lambda pair: True) -> Pair:
    """Return the pair of states of the largest product that may be taken, the first on a tie: rows (P, states, O)."""
    best = rows[..., 1:].amax(dim=-1).tolist()  # column 0 is `none`
    return max(filter(allowed, state_pairs(rows)), key=lambda pair: best[0][pair[0]] * best[-1][pair[1]])


def state_pairs(rows: Tensor) -> Iterator[Pair]:
    """Return the pairs of states in lexicographic order, with two mixtures each in both orders: rows (P, states, O)."""
    pairs = combinations if len(rows) == 1 else permutations
    return pairs(range(rows.shape[1]), 2)


def _derive_step(edges: Tensor, ops: Tensor, space: CellSpace) -> StepGenotype:
    kept = []
    for rows in edges.split(space.inner_edges_per_step, dim=1):
        kept += [_keep(rows[port], j, INNER_EDGES) for port, j in zip((0, -1), _inner_pair(rows), strict=True)]
    names = tuple(space.op_names[row.index(max(row))] for row in ops.tolist())
    return StepGenotype(tuple(kept), names, space.inner_concat)


def _inner_pair(rows: Tensor) -> Pair:
    """Return the two inner states of the largest weights, larger first: rows (P, states, 2)."""
    if len(rows) == 2:
        return _best_pair(rows)
    first, second, *_ = rows[0, :, 1].argsort(descending=True, stable=True).tolist()  # lowest index on a tie
    return first, second


def _keep(rows: Tensor, edge: int, names: Names) -> Edge:
    return names[1 + int(rows[edge, 1:].argmax())], edge


def cap_parameter_free(cells: Cells, weights: list[Weights], space: CellSpace, most: int | None) -> Cells:
    """Limit the choices without parameters over all levels.

    Args:
        most: number of fusion operations without parameters (and edges, where edges can learn) that are kept, the
            strongest; the others give way to the best one that learns. None: any number.
    """
    if most is None:
        return cells
    free = [
        (-row[chosen], level, place)
        for level, cell in enumerate(cells)
        for place, (row, names, chosen) in choices(cell, weights[level], space).items()
        if is_parameter_free(names[chosen], space.rank)
    ]
    for _, level, place in sorted(free)[most:]:
        row, names, _ = choices(cells[level], weights[level], space)[place]
        learned = [o for o, name in enumerate(names) if not is_parameter_free(name, space.rank)]
        cell = with_choice(cells[level], place, names[max(learned, key=row.__getitem__)])
        cells = with_item(cells, level, cell)
    return cells


def choices(cell: CellGenotype, weights: Weights, space: CellSpace) -> dict[tuple[int, ...], tuple[list, Names, int]]:
    """Return the choices of a cell between operations with and without parameters: weights, names, chosen index.

    Places are (step, inner step) of a fusion operation, and (edge,) where edges have something to learn.
    """
    found = {}
    for s, step in enumerate(cell.steps):
        for k, name in enumerate(step.inner_steps):
            found[s, k] = weights.ops[s, k].tolist(), space.op_names, space.op_names.index(name)
    for edge, (name, state) in enumerate(cell.edges if space.learned_edges else ()):
        of_step = weights.edges.split(space.edges_per_step, dim=1)[edge // 2]
        row = of_step[edge % space.ports, state].tolist()
        found[(edge,)] = row, space.edge_ops, space.edge_ops.index(name)
    return found


def with_choice(cell: CellGenotype, place: tuple[int, ...], name: str) -> CellGenotype:
    """Return the cell with another operation in one of the places of `choices`."""
    if len(place) == 1:
        return replace(cell, edges=with_item(cell.edges, place[0], (name, cell.edges[place[0]][1])))
    s, k = place
    step = replace(cell.steps[s], inner_steps=with_item(cell.steps[s].inner_steps, k, name))
    return replace(cell, steps=with_item(cell.steps, s, step))


def with_item(items: tuple, index: int, item: Any) -> tuple:
    """Return a tuple with another item at an index."""
    return (*items[:index], item, *items[index + 1 :])


def operation_counts(genotype: Genotype) -> Counter[str]:
    """Count the fusion operations over all levels and steps."""
    return Counter(op for cell in genotype.cells for step in cell.steps for op in step.inner_steps)


def mean_entropy(fusions: list[SearchableFusion]) -> dict[str, float]:
    """Return the mean entropy in nats of the rows of each kind of weights, over all levels."""
    row = {}
    for name, kind in zip(Weights._fields, zip(*(f.weights(double=True) for f in fusions)), strict=True):
        entropies = [torch.special.entr(w / w.sum(-1, True)).sum(-1).flatten() for w in kind]
        row[f"entropy_{name}"] = float(torch.cat(entropies).mean())
    return row


def named_weights(fusion: SearchableFusion, inputs: Names) -> dict[str, dict[str, dict[str, float]]]:
    """Return what derivation goes by of one level, under names: of inputs, those that a step of a found cell may read.

    Args:
        inputs: names of the cell's inputs at this level.
    Returns:
        "edges": {"step 1": {state: its best weight that is not none}}, apart for x and y where these have mixtures of
        their own; "ops": {"step 1": {operation: weight}}, "step 1.2" where a step has several operations.
    """
    weights, space = final_weights(fusion), fusion.space
    edges, ops = {}, {}
    ports = (" x", " y") if space.pair_inputs else ("",)
    for s, rows in enumerate(weights.edges.split(space.edges_per_step, dim=1)):
        states = (*inputs, *(f"step {n + 1}" for n in range(s)))[: space.candidates(s)]
        for port, row in zip(ports, rows[..., 1:].amax(dim=-1).tolist(), strict=True):
            edges[f"step {s + 1}{port}"] = _rounded(states, row)
        for k in range(space.node_steps):
            name = f"step {s + 1}.{k + 1}" if space.node_steps > 1 else f"step {s + 1}"
            ops[name] = _rounded(space.op_names, weights.ops[s, k].tolist())
    return {"edges": edges, "ops": ops}


def _rounded(names: Names, values: list[float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in zip(names, values)}


def describe_genotype(genotype: Genotype, space: CellSpace) -> dict[str, float | int | str]:
    """Return the operation counts of a genotype, how many learn nothing, and the genotype in words, flat."""
    found, names = operation_counts(genotype), space.op_names
    if space.learned_edges:
        found.update(name for cell in genotype.cells for name, _ in cell.edges)
        names += space.edge_ops[1:]
    free = sum(count for op, count in found.items() if is_parameter_free(op, space.rank))
    counts = {f"count_{op}": found[op] for op in names}
    return counts | {"parameter_free": free, "genotype": genotype.id, "argmax": genotype.words}
