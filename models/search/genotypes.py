"""Genotypes: what a search found, as frozen dataclasses and versioned JSON, and the space they are drawn from.

A genotype holds one cell per pyramid level; reading one from a file is genotype_io.py.
"""

import hashlib
import json
import math
import random
from dataclasses import dataclass, field
from itertools import combinations

from models.search.operations import FUSION_OPS
from utils.errors import UserError

FORMAT = 1
SPACE_NAME = "fusion_v1"
Edge = tuple[str, int]  # operation and index of the state that it reads


@dataclass(frozen=True)
class Space:
    """Sizes of the search space of one fusion network; the defaults are the published ones."""

    num_inputs: int
    channels: int
    steps: int = 2
    multiplier: int = 2
    node_steps: int = 1
    node_multiplier: int = 3
    rank: int = 4

    def __post_init__(self):
        for name in ("num_inputs", "channels", "steps", "multiplier", "node_steps", "node_multiplier"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, found {getattr(self, name)}")
        _at_most("multiplier", self.multiplier, self.num_inputs + self.steps, "num_inputs + steps")
        _at_most("node_multiplier", self.node_multiplier, 2 + self.node_steps, "2 + node_steps")
        _at_most("steps", self.steps, math.ceil(self.num_inputs / 2), "ceil(num_inputs / 2), or input pairs run out")

    @property
    def op_names(self) -> tuple[str, ...]:
        return tuple(FUSION_OPS[self.rank])

    @property
    def num_edges(self) -> int:
        """Edges of the cell: step i reads the inputs and the i earlier steps."""
        return sum(self.num_inputs + i for i in range(self.steps))

    @property
    def num_inner_edges(self) -> int:
        return sum(2 + k for k in range(self.node_steps))

    @property
    def concat(self) -> tuple[int, ...]:
        last = self.num_inputs + self.steps
        return tuple(range(last - self.multiplier, last))

    @property
    def inner_concat(self) -> tuple[int, ...]:
        last = 2 + self.node_steps
        return tuple(range(last - self.node_multiplier, last))


def _at_most(name: str, value: int, limit: int, why: str) -> None:
    if value > limit:
        raise UserError(f"{name}: expected at most {limit} ({why}), found {value}")


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
        "space": SPACE_NAME,
        "id": genotype.id,
        "inputs": list(genotype.inputs),
        "levels": list(genotype.levels),
        "C": genotype.channels,
        "cells": [cell_to_json(c) for c in genotype.cells],
        "meta": genotype.meta,
    }


def random_genotype(space: Space, inputs: tuple[str, ...], levels: tuple[str, ...], seed: int) -> Genotype:
    """Draw every choice that derivation could make uniformly: the random-search baseline (1902.07638)."""
    rng = random.Random(seed)
    cells = tuple(_random_cell(space, rng) for _ in levels)
    return Genotype(tuple(inputs), tuple(levels), space.channels, cells, {"random_genotype": seed})


def _random_cell(space: Space, rng: random.Random) -> CellGenotype:
    edges, used = [], set()
    for _ in range(space.steps):
        pairs = [p for p in combinations(range(space.num_inputs), 2) if not set(p) <= used]
        pair = rng.choice(pairs)
        used |= set(pair)
        edges += [("skip", index) for index in pair]
    return CellGenotype(tuple(edges), tuple(_random_step(space, rng) for _ in range(space.steps)), space.concat)


def _random_step(space: Space, rng: random.Random) -> StepGenotype:
    edges = [("skip", index) for k in range(space.node_steps) for index in rng.sample(range(2 + k), 2)]
    ops = tuple(rng.choice(space.op_names) for _ in range(space.node_steps))
    return StepGenotype(tuple(edges), ops, space.inner_concat)
