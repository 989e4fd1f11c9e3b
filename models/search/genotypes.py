"""Genotypes: what a search found, as frozen dataclasses and versioned JSON, and how they are drawn uniformly.

A genotype holds one cell per pyramid level, of a space (spaces.py); reading one from a file is genotype_io.py.
"""

import hashlib
import json
import random
from dataclasses import dataclass, field, replace
from itertools import combinations

from models.search.spaces import PUBLISHED, Space

FORMAT = 1
Edge = tuple[str, int]  # operation and index of the state that it reads


@dataclass(frozen=True)
class StepGenotype:
    """One fusion node: two inner edges per inner step, the operation of each inner step, the states that go out."""

    inner_edges: tuple[Edge, ...]
    inner_steps: tuple[str, ...]
    inner_concat: tuple[int, ...]


@dataclass(frozen=True)
class CellGenotype:
    """The fusion network of one level: two edges per step, a node per step, the states that go out."""

    edges: tuple[Edge, ...]
    steps: tuple[StepGenotype, ...]
    concat: tuple[int, ...]


@dataclass(frozen=True)
class Genotype:
    """One cell per level, what the cells read, and where the genotype came from (`meta`, plain values)."""

    inputs: tuple[str, ...]
    levels: tuple[str, ...]
    channels: int
    cells: tuple[CellGenotype, ...]
    meta: dict = field(default_factory=dict, compare=False)
    space: str = PUBLISHED

    @property
    def id(self) -> str:
        """Content id: 12 hex digits of the SHA-256 of the cells in canonical JSON."""
        text = json.dumps([cell_to_json(c) for c in self.cells], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def cell_to_json(cell: CellGenotype) -> dict:
    steps = [
        {
            "inner_edges": [list(e) for e in s.inner_edges],
            "inner_steps": list(s.inner_steps),
            "inner_concat": list(s.inner_concat),
        }
        for s in cell.steps
    ]
    return {"edges": [list(e) for e in cell.edges], "concat": list(cell.concat), "steps": steps}


def genotype_to_json(genotype: Genotype) -> dict:
    """Return the format of specs: genotype on disk, with the content id added."""
    return {
        "format": FORMAT,
        "space": genotype.space,
        "id": genotype.id,
        "inputs": list(genotype.inputs),
        "levels": list(genotype.levels),
        "C": genotype.channels,
        "cells": [cell_to_json(c) for c in genotype.cells],
        "meta": genotype.meta,
    }


def random_genotype(space: Space, inputs: tuple[str, ...], levels: tuple[str, ...], seed: int) -> Genotype:
    """Draw every choice that derivation could make uniformly: the random-search baseline (1902.07638)."""
    return draw_genotype(space, inputs, levels, random.Random(seed), {"random_genotype": seed})


def draw_genotype(
    space: Space, inputs: tuple[str, ...], levels: tuple[str, ...], rng: random.Random, meta: dict
) -> Genotype:
    """Draw a genotype uniformly, from a generator of one's own."""
    cells = tuple(draw_cell(space, rng) for _ in levels)
    return Genotype(tuple(inputs), tuple(levels), space.channels, cells, meta, space.name)


def draw_cell(space: Space, rng: random.Random) -> CellGenotype:
    edges, used = [], set()
    for _ in range(space.steps):
        pairs = [p for p in combinations(range(space.num_inputs), 2) if not set(p) <= used]
        pair = rng.choice(pairs)
        used |= set(pair)
        edges += [(draw_edge(space, rng), index) for index in pair]
    return CellGenotype(tuple(edges), tuple(_draw_step(space, rng) for _ in range(space.steps)), space.concat)


def draw_edge(space: Space, rng: random.Random) -> str:
    """Draw what an edge does with its state; nothing is drawn where there is but one choice."""
    kept = space.edge_ops[1:]
    return rng.choice(kept) if len(kept) > 1 else kept[0]


def _draw_step(space: Space, rng: random.Random) -> StepGenotype:
    edges = [("skip", index) for k in range(space.node_steps) for index in rng.sample(range(2 + k), 2)]
    ops = tuple(rng.choice(space.op_names) for _ in range(space.node_steps))
    return StepGenotype(tuple(edges), ops, space.inner_concat)


def mutated(parent: Genotype, space: Space, rng: random.Random) -> Genotype:
    """Return the genotype changed in one place: the state or the operation of an edge, or an operation of a node.

    Inner edges stay; the rule of `draw_cell` holds: no step reads two states that earlier ones have read.
    """
    while True:
        level, step = rng.randrange(len(parent.cells)), rng.randrange(space.steps)
        cell = _mutated_cell(parent.cells[level], step, space, rng)
        if cell != parent.cells[level] and _obeys(cell):
            cells = (*parent.cells[:level], cell, *parent.cells[level + 1 :])
            return replace(parent, cells=cells, meta={})


def _mutated_cell(cell: CellGenotype, step: int, space: Space, rng: random.Random) -> CellGenotype:
    kinds = ["state", "operation"] + (["edge"] if len(space.edge_ops) > 2 else [])
    kind, place = rng.choice(kinds), 2 * step + rng.randrange(2)
    if kind == "operation":
        k, node = rng.randrange(space.node_steps), cell.steps[step]
        inner = (*node.inner_steps[:k], rng.choice(space.op_names), *node.inner_steps[k + 1 :])
        nodes = (*cell.steps[:step], replace(node, inner_steps=inner), *cell.steps[step + 1 :])
        return replace(cell, steps=nodes)
    name, state = cell.edges[place]
    edge = (draw_edge(space, rng), state) if kind == "edge" else (name, rng.randrange(space.num_inputs))
    edges = [*cell.edges[:place], edge, *cell.edges[place + 1 :]]
    pair = slice(2 * step, 2 * step + 2)
    edges[pair] = sorted(edges[pair], key=lambda one: one[1])
    return replace(cell, edges=tuple(edges))


def _obeys(cell: CellGenotype) -> bool:
    """Tell whether each step reads two states, of which one is new."""
    used: set[int] = set()
    for (_, a), (_, b) in zip(cell.edges[::2], cell.edges[1::2]):
        if a == b or {a, b} <= used:
            return False
        used |= {a, b}
    return True
