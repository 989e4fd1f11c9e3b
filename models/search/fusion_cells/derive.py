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
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations

import torch
from torch import Tensor

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import INNER_EDGES
from models.search.fusion_cells.genotype import CellGenotype, Edge, Genotype, StepGenotype
from models.search.fusion_cells.operations import is_parameter_free
from models.search.fusion_cells.supernet import SearchableFusion, Weights


def derive(
    fusions: list[SearchableFusion],
    inputs: tuple[str, ...],
    levels: tuple[str, ...],
    meta: dict,
    most_parameter_free: int | None = None,
) -> Genotype:
    """Return the genotype of one supernet per level.

    Args:
        inputs: names of a cell's inputs.
        most_parameter_free: fusion operations without parameters (and edges, where edges can learn) that are kept, the
            strongest of all levels; the others give way to the best one that learns.
    """
    weights, space = [final_weights(f) for f in fusions], fusions[0].space
    cells = tuple(derive_cell(w, space) for w in weights)
    if most_parameter_free is not None:
        cells = cap_parameter_free(cells, weights, space, most_parameter_free)
    return Genotype(tuple(inputs), tuple(levels), space.channels, cells, meta, space.name)


def final_weights(fusion: SearchableFusion) -> Weights:
    """Return what derivation goes by, in float64 on the CPU."""
    weights = fusion.weights(double=True)
    if fusion.partial == 1:
        return weights
    outer, inner = fusion.state_weights(double=True)
    return weights._replace(edges=weights.edges * outer[..., None], inner_edges=weights.inner_edges * inner[..., None])


def derive_cell(weights: Weights, space: CellSpace) -> CellGenotype:
    """Return the cell of relaxed logits."""
    kept, taken, first = [], [], 0
    for i in range(space.steps):
        rows = weights.edges[:, first : first + space.candidates(i)]
        pair = best_pair(rows, lambda states: space.allows(states, taken))
        taken.append(pair)
        kept += [_keep(rows[port], j, space.edge_ops) for port, j in zip((0, -1), pair, strict=True)]
        first += space.num_inputs + i
    steps = tuple(_derive_step(e, o, space) for e, o in zip(weights.inner_edges, weights.ops, strict=True))
    return CellGenotype(tuple(kept), steps, space.concat)


def best_pair(rows: Tensor, allowed: Callable[[tuple[int, int]], bool] = lambda pair: True) -> tuple[int, int]:
    """Return the pair of states of the largest product that may be taken: rows (P, states, O)."""
    return rated_pairs(rows, allowed)[0][1]


def rated_pairs(
    rows: Tensor, allowed: Callable[[tuple[int, int]], bool] = lambda pair: True
) -> list[tuple[float, tuple[int, int]]]:
    """Return all pairs that may be taken with their products, the largest first: rows (P, states, O)."""
    best = rows[..., 1:].amax(dim=-1).tolist()  # column 0 is `none`
    pairs = combinations(range(len(best[0])), 2) if len(best) == 1 else permutations(range(len(best[0])), 2)
    scored = [(best[0][j] * best[-1][k], (j, k)) for j, k in pairs if allowed((j, k))]
    return sorted(scored, key=lambda pair: -pair[0])  # stable: lexicographic order on a tie


def _derive_step(edges: Tensor, ops: Tensor, space: CellSpace) -> StepGenotype:
    kept, first = [], 0
    for k in range(space.node_steps):
        rows = edges[:, first : first + 2 + k]
        kept += [_keep(rows[port], j, INNER_EDGES) for port, j in zip((0, -1), _inner_pair(rows), strict=True)]
        first += 2 + k
    names = tuple(space.op_names[row.index(max(row))] for row in ops.tolist())
    return StepGenotype(tuple(kept), names, space.inner_concat)


def _inner_pair(rows: Tensor) -> tuple[int, int]:
    """Return the two inner states of the largest weights, larger first: rows (P, states, 2)."""
    if len(rows) == 2:
        return best_pair(rows)
    best = rows[0, :, 1].tolist()
    order = sorted(range(len(best)), key=lambda j: -best[j])  # stable: lowest index on a tie
    return order[0], order[1]


def _keep(rows: Tensor, edge: int, names: tuple[str, ...]) -> Edge:
    return names[1 + int(rows[edge, 1:].argmax())], edge


def cap_parameter_free(
    cells: tuple[CellGenotype, ...], weights: list[Weights], space: CellSpace, most: int
) -> tuple[CellGenotype, ...]:
    """Keep the strongest `most` choices without parameters; the others give way to the best that learns."""
    free = [
        (-row[chosen], level, place)
        for level, cell in enumerate(cells)
        for place, (row, names, chosen) in choices(cell, weights[level], space).items()
        if is_parameter_free(names[chosen], space.rank)
    ]
    for _, level, place in sorted(free)[most:]:
        row, names, _ = choices(cells[level], weights[level], space)[place]
        learned = [o for o, name in enumerate(names) if not is_parameter_free(name, space.rank)]
        cell = with_choice(cells[level], place, names[max(learned, key=lambda o: row[o])])
        cells = (*cells[:level], cell, *cells[level + 1 :])
    return cells


def choices(
    cell: CellGenotype, weights: Weights, space: CellSpace
) -> dict[tuple[int, ...], tuple[list[float], tuple[str, ...], int]]:
    """Return the choices of a cell between operations with and without parameters: weights, names, chosen index.

    Places are (step, inner step) of a fusion operation, and (edge,) where edges have something to learn.
    """
    found = {}
    for s, step in enumerate(cell.steps):
        for k, name in enumerate(step.inner_steps):
            found[s, k] = weights.ops[s, k].tolist(), space.op_names, space.op_names.index(name)
    if space.learned_edges:
        for edge, (name, state) in enumerate(cell.edges):
            first = sum(space.num_inputs + i for i in range(edge // 2))
            row = weights.edges[edge % 2 if space.pair_inputs else 0, first + state].tolist()
            found[(edge,)] = row, space.edge_ops, space.edge_ops.index(name)
    return found


def with_choice(cell: CellGenotype, place: tuple[int, ...], name: str) -> CellGenotype:
    """Return the cell with another operation in one of the places of `choices`."""
    if len(place) == 1:
        edges = [(name, e[1]) if number == place[0] else e for number, e in enumerate(cell.edges)]
        return replace(cell, edges=tuple(edges))
    (s, k), step = place, cell.steps[place[0]]
    inner = (*step.inner_steps[:k], name, *step.inner_steps[k + 1 :])
    return replace(cell, steps=(*cell.steps[:s], replace(step, inner_steps=inner), *cell.steps[s + 1 :]))


def operation_counts(genotype: Genotype) -> Counter[str]:
    """Count the fusion operations over all levels and steps."""
    return Counter(op for cell in genotype.cells for step in cell.steps for op in step.inner_steps)


def edge_counts(genotype: Genotype) -> Counter[str]:
    """Count what the edges of all levels do."""
    return Counter(name for cell in genotype.cells for name, _ in cell.edges)


def mean_entropy(fusions: list[SearchableFusion]) -> dict[str, float]:
    """Return the mean entropy in nats of the rows of each kind of weights, over all levels."""
    kinds = zip(*(f.weights(double=True) for f in fusions), strict=True)
    return {
        f"entropy_{name}": float(
            torch.cat([torch.special.entr(w / w.sum(-1, True)).sum(-1).flatten() for w in kind]).mean()
        )
        for name, kind in zip(Weights._fields, kinds, strict=True)
    }


def named_weights(fusion: SearchableFusion, inputs: tuple[str, ...]) -> dict[str, dict[str, dict[str, float]]]:
    """Return what derivation goes by of one level, under names: of inputs, those that a step of a found cell may read.

    Args:
        inputs: names of the cell's inputs at this level.
    Returns:
        "edges": {"step 1": {state: its best weight that is not none}}, apart for x and y where these have mixtures of
        their own; "ops": {"step 1": {operation: weight}}, "step 1.2" where a step has several operations.
    """
    weights, space = final_weights(fusion), fusion.space
    edges, ops, first = {}, {}, 0
    for s in range(space.steps):
        states = (*inputs, *(f"step {n + 1}" for n in range(s)))
        for row, port in zip(weights.edges, (" x", " y") if space.pair_inputs else ("",), strict=True):
            best = row[first : first + len(states), 1:].amax(dim=-1).tolist()
            count = space.candidates(s)
            edges[f"step {s + 1}{port}"] = _rounded(states[:count], best[:count])
        for k in range(space.node_steps):
            name = f"step {s + 1}.{k + 1}" if space.node_steps > 1 else f"step {s + 1}"
            ops[name] = _rounded(space.op_names, weights.ops[s, k].tolist())
        first += len(states)
    return {"edges": edges, "ops": ops}


def _rounded(names: tuple[str, ...], values: list[float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in zip(names, values, strict=True)}


def describe(fusions: list[SearchableFusion], genotype: Genotype) -> dict[str, float | int | str]:
    """Return what the logits say now, flat: entropies, counts of the arg-max operations, and the arg-max in words."""
    return mean_entropy(fusions) | describe_genotype(genotype, fusions[0].space)


def describe_genotype(genotype: Genotype, space: CellSpace) -> dict[str, float | int | str]:
    """Return the operation counts of a genotype, how many learn nothing, and the genotype in words, flat."""
    found = operation_counts(genotype) + (edge_counts(genotype) if space.learned_edges else Counter())
    counts = {
        f"count_{op}": found[op] for op in (*space.op_names, *(space.edge_ops[1:] if space.learned_edges else ()))
    }
    free = {"parameter_free": sum(n for op, n in found.items() if is_parameter_free(op, space.rank))}
    return counts | free | {"genotype": genotype.id, "argmax": genotype.words}
