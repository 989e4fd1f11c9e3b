"""The likeliest genotypes under the final weights of a search: what top-k selection trains briefly.

A genotype's probability is the product over its choices: a step's two edges as derivation rates them (the product of
their weights, over all pairs that may be taken), and each inner step's operation. Inner edges are those of derivation.

Shapes: P mixtures per node, E edges, O operations, S steps, K inner steps.
"""

from dataclasses import replace
from itertools import product

from torch import Tensor

from models.search.best_combinations import Ranked, best_combinations, best_first, log_weight
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.derive import cap_parameter_free, derive_cell, final_weights, state_pairs
from models.search.fusion_cells.genotype import CellGenotype, Genotype, Names, edge_pairs
from models.search.fusion_cells.supernet import SearchableFusion, Weights


def top_k_genotypes(
    fusions: list[SearchableFusion], inputs: Names, levels: Names, count: int, most_parameter_free: int | None = None
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
        cells = cap_parameter_free(cells, weights, space, most_parameter_free)
        found.setdefault(Genotype(inputs, levels, space.channels, cells, space=space.name), log)
    return [(log, genotype) for genotype, log in found.items()]


def _choices(weights: Weights, space: CellSpace, count: int) -> list[Ranked]:
    """Return the ranked alternatives of a level: its edges together, then the operation of each inner step."""
    ops = [zip(map(log_weight, row), space.op_names) for step in weights.ops.tolist() for row in step]
    return [_ranked_edges(weights.edges, space, count), *(best_first(row)[:count] for row in ops)]


def _ranked_edges(edges: Tensor, space: CellSpace, count: int) -> Ranked:
    """Return the likeliest edges of a cell, by a beam over its steps: edges (P, E, O)."""
    beam = [(0.0, ())]
    for i, of_step in enumerate(edges.split(space.edges_per_step, dim=1)):
        rows = of_step[:, : space.candidates(i)]
        longer = []
        for log, chosen in beam:
            taken = [(a, b) for (_, a), (_, b) in edge_pairs(chosen)]
            longer += [(log + more, (*chosen, *pair)) for more, pair in _ranked_pairs(rows, taken, space)[:count]]
        beam = best_first(longer)[:count]
    return beam


def _ranked_pairs(rows: Tensor, taken: list[tuple[int, int]], space: CellSpace) -> Ranked:
    """Return every pair of edges that a step may take, the likeliest first, ties as in derivation."""
    table = [[[log_weight(w) for w in row] for row in port] for port in rows.tolist()]
    names = list(enumerate(space.edge_ops))[1:]  # without `none`
    return best_first(
        (table[0][j][a] + table[-1][k][b], ((first, j), (second, k)))
        for j, k in state_pairs(rows)
        if space.allows((j, k), taken)
        for (a, first), (b, second) in product(names, names)
    )


def _cell(start: CellGenotype, picked: list, space: CellSpace) -> CellGenotype:
    edges, names = picked[0], picked[1:]
    ops = [tuple(names[i : i + space.node_steps]) for i in range(0, len(names), space.node_steps)]
    steps = tuple(replace(step, inner_steps=names) for step, names in zip(start.steps, ops, strict=True))
    return replace(start, edges=edges, steps=steps)
