"""The likeliest genotypes under the final weights of a search: what top-k selection trains briefly.

A genotype's probability is the product over its choices: a step's two edges as derivation rates them (the product of
their weights, over all pairs that may be taken), and each inner step's operation. Inner edges are those of derivation.

Shapes: P mixtures per node, E edges, O operations, S steps, K inner steps.
"""

import math
from dataclasses import replace
from itertools import combinations, permutations, product

from torch import Tensor

from models.search.best_combinations import Ranked, best_combinations
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.derive import cap_parameter_free, derive_cell, final_weights
from models.search.fusion_cells.genotype import CellGenotype, Edge, Genotype
from models.search.fusion_cells.supernet import SearchableFusion, Weights


def top_k_genotypes(
    fusions: list[SearchableFusion],
    inputs: tuple[str, ...],
    levels: tuple[str, ...],
    count: int,
    most_parameter_free: int | None = None,
) -> Ranked:
    """Return the `count` likeliest genotypes with their log probabilities, up to a constant, the likeliest first.

    They are fewer where the space has no more, or where caps make several equal.

    Args:
        most_parameter_free: as in `derive`.
    """
    weights, space = [final_weights(f) for f in fusions], fusions[0].space
    choices = [ranked for level in weights for ranked in _choices(level, space, count)]
    starts = [derive_cell(level, space) for level in weights]
    found: dict[Genotype, float] = {}
    for log, picked in best_combinations(choices, count):
        per_level = len(picked) // len(fusions)
        parts = [picked[n : n + per_level] for n in range(0, len(picked), per_level)]
        cells = tuple(_cell(start, part, space) for start, part in zip(starts, parts, strict=True))
        if most_parameter_free is not None:
            cells = cap_parameter_free(cells, weights, space, most_parameter_free)
        genotype = Genotype(tuple(inputs), tuple(levels), space.channels, cells, {}, space.name)
        found.setdefault(genotype, log)
    return [(log, genotype) for genotype, log in found.items()]


def _choices(weights: Weights, space: CellSpace, count: int) -> list[Ranked]:
    """Return the ranked alternatives of a level: its edges together, then the operation of each inner step."""
    ops = [row for step in weights.ops.tolist() for row in step]
    names = [sorted(((_log(w), (name,)) for w, name in zip(row, space.op_names)), key=lambda c: -c[0]) for row in ops]
    return [_ranked_edges(weights.edges, space, count), *(ranked[:count] for ranked in names)]


def _ranked_edges(edges: Tensor, space: CellSpace, count: int) -> Ranked:
    """Return the likeliest edges of a cell, by a beam over its steps: edges (P, E, O)."""
    beam, first = [(0.0, ())], 0
    for i in range(space.steps):
        rows = edges[:, first : first + space.candidates(i)]
        longer = []
        for log, chosen in beam:
            taken = [(a, b) for (_, a), (_, b) in zip(chosen[::2], chosen[1::2], strict=True)]
            longer += [(log + more, (*chosen, *pair)) for more, pair in _ranked_pairs(rows, taken, space)[:count]]
        beam = sorted(longer, key=lambda ranked: -ranked[0])[:count]
        first += space.num_inputs + i
    return beam


def _ranked_pairs(
    rows: Tensor, taken: list[tuple[int, int]], space: CellSpace
) -> list[tuple[float, tuple[Edge, Edge]]]:
    """Return every pair of edges that a step may take, the likeliest first, ties as in derivation."""
    table = [[[_log(w) for w in row] for row in port] for port in rows.tolist()]
    states = range(rows.shape[1])
    pairs = combinations(states, 2) if len(table) == 1 else permutations(states, 2)
    ops = range(1, len(space.edge_ops))
    scored = [
        (table[0][j][a] + table[-1][k][b], ((space.edge_ops[a], j), (space.edge_ops[b], k)))
        for j, k in pairs
        if space.allows((j, k), taken)
        for a, b in product(ops, ops)
    ]
    return sorted(scored, key=lambda ranked: -ranked[0])


def _cell(start: CellGenotype, picked: list[tuple], space: CellSpace) -> CellGenotype:
    edges, names = picked[0], [name for (name,) in picked[1:]]
    ops = [tuple(names[i : i + space.node_steps]) for i in range(0, len(names), space.node_steps)]
    steps = tuple(replace(step, inner_steps=names) for step, names in zip(start.steps, ops, strict=True))
    return replace(start, edges=tuple(edges), steps=steps)


def _log(weight: float) -> float:
    return math.log(weight) if weight > 0 else -math.inf
