"""The genotype of the fusion: one cell per place, as frozen dataclasses and versioned JSON.

Reading one from a file: genotype_file.py. Drawing one at random: random_genotypes.py.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field

from models.search.fusion_cells.choices import PUBLISHED

FORMAT = 1  # of the JSON of one part
Edge = tuple[str, int]  # operation and index of the state that it reads
Names = tuple[str, ...]


@dataclass(frozen=True)
class StepGenotype:
    """One fusion node: two inner edges per inner step, the operation of each inner step, the states that go out."""

    inner_edges: tuple[Edge, ...]
    inner_steps: Names
    inner_concat: tuple[int, ...]


@dataclass(frozen=True)
class CellGenotype:
    """The fusion network of one place: two edges per step, a node per step, the states that go out."""

    edges: tuple[Edge, ...]
    steps: tuple[StepGenotype, ...]
    concat: tuple[int, ...]

    @property
    def words(self) -> str:
        """The cell in one line: the two states that each step reads and its operations."""
        pairs = [f"{_edge_in_words(a)}+{_edge_in_words(b)}" for a, b in edge_pairs(self.edges)]
        return ", ".join(f"{pair} {'/'.join(s.inner_steps)}" for pair, s in zip(pairs, self.steps, strict=True))

    def to_json(self) -> dict:
        cell = json.loads(json.dumps(asdict(self)))  # with lists for tuples
        return {name: cell[name] for name in ("edges", "concat", "steps")}


@dataclass(frozen=True)
class Genotype:
    """One cell per level, the names of what the cells read, and where the genotype came from (`meta`, plain values)."""

    inputs: Names
    levels: Names
    channels: int
    cells: tuple[CellGenotype, ...]
    meta: dict = field(default_factory=dict, compare=False)
    space: str = PUBLISHED

    @property
    def id(self) -> str:
        """Content id: 12 hex digits of the SHA-256 of the cells in canonical JSON."""
        text = json.dumps([cell.to_json() for cell in self.cells], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def words(self) -> str:
        """The genotype in one line."""
        return "; ".join(f"{level}: {cell.words}" for level, cell in zip(self.levels, self.cells, strict=True))

    def to_json(self) -> dict:
        """Return the object of format 1, with the content id added."""
        sizes = {"inputs": list(self.inputs), "levels": list(self.levels), "C": self.channels}
        cells = [cell.to_json() for cell in self.cells]
        return {"format": FORMAT, "space": self.space, "id": self.id, **sizes, "cells": cells, "meta": self.meta}


def edge_pairs(edges: tuple[Edge, ...]) -> list[tuple[Edge, Edge]]:
    """Return the two edges of each step of a cell, or of each inner step of a node."""
    return list(zip(edges[::2], edges[1::2], strict=True))


def _edge_in_words(edge: Edge) -> str:
    return str(edge[1]) if edge[0] == "skip" else f"{edge[1]}:{edge[0].removesuffix('_3x3')}"
