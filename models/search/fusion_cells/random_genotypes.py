"""Random genotypes: drawn uniformly, or changed in one place, with a limit of choices without parameters."""

import random
from dataclasses import replace
from itertools import combinations

import torch

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.derive import cap_parameter_free, with_choice, with_item
from models.search.fusion_cells.genotype import CellGenotype, Genotype, Names, StepGenotype
from models.search.fusion_cells.supernet import Weights


def draw_genotype(space: CellSpace, inputs: Names, levels: Names, rng: random.Random) -> Genotype:
    """Draw a genotype uniformly, with a given generator."""
    cells = tuple(draw_cell(space, rng) for _ in levels)
    return Genotype(inputs, levels, space.channels, cells, space=space.name)


def draw_cell(space: CellSpace, rng: random.Random) -> CellGenotype:
    edges, taken = [], []
    for step in range(space.steps):
        pair = rng.choice([p for p in combinations(range(space.candidates(step)), 2) if space.allows(p, taken)])
        taken.append(pair)
        edges += [(draw_edge(space, rng), index) for index in pair]
    return CellGenotype(tuple(edges), tuple(_draw_step(space, rng) for _ in range(space.steps)), space.concat)


def draw_edge(space: CellSpace, rng: random.Random) -> str:
    """Draw the operation of an edge; with one choice, no number is drawn."""
    kept = space.edge_ops[1:]
    return rng.choice(kept) if len(kept) > 1 else kept[0]


def _draw_step(space: CellSpace, rng: random.Random) -> StepGenotype:
    edges = [("skip", index) for k in range(space.node_steps) for index in rng.sample(range(2 + k), 2)]
    ops = tuple(rng.choice(space.op_names) for _ in range(space.node_steps))
    return StepGenotype(tuple(edges), ops, space.inner_concat)


def mutated(parent: Genotype, space: CellSpace, rng: random.Random) -> Genotype:
    """Return the genotype changed in one place: the state or the operation of an edge, or an operation of a node.

    Inner edges stay; the rule of the space for pairs holds, as in `draw_cell`.
    """
    while True:
        level, step = rng.randrange(len(parent.cells)), rng.randrange(space.steps)
        cell = _mutated_cell(parent.cells[level], step, space, rng)
        if cell != parent.cells[level] and not space.problem(cell):
            return replace(parent, cells=with_item(parent.cells, level, cell), meta={})


def _mutated_cell(cell: CellGenotype, step: int, space: CellSpace, rng: random.Random) -> CellGenotype:
    kinds = ["state", "operation"] + (["edge"] if space.learned_edges else [])
    kind, place = rng.choice(kinds), 2 * step + rng.randrange(2)
    if kind == "operation":
        k = rng.randrange(space.node_steps)
        return with_choice(cell, (step, k), rng.choice(space.op_names))
    name, state = cell.edges[place]
    edge = (draw_edge(space, rng), state) if kind == "edge" else (name, rng.randrange(space.candidates(step)))
    edges = list(with_item(cell.edges, place, edge))
    pair = slice(2 * step, 2 * step + 2)
    edges[pair] = sorted(edges[pair], key=lambda edge: edge[1])
    return replace(cell, edges=tuple(edges))


def limit_parameter_free(genotype: Genotype, space: CellSpace, most: int | None, rng: random.Random) -> Genotype:
    """Return a drawn genotype with at most so many choices without parameters; None: as it is.

    Random weights decide which operations are replaced, and by which: `cap_parameter_free`.
    """
    if most is None:
        return genotype
    draws = torch.Generator().manual_seed(rng.getrandbits(32))
    edges = space.ports, sum(space.edges_per_step), len(space.edge_ops)
    ops = space.steps, space.node_steps, len(space.op_names)
    weights = [
        Weights(torch.rand(*edges, generator=draws), torch.empty(0), torch.rand(*ops, generator=draws))
        for _ in genotype.cells
    ]
    return replace(genotype, cells=cap_parameter_free(genotype.cells, weights, space, most))
