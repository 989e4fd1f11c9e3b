"""The genotype of the fusion: one cell per place, as frozen dataclasses and versioned JSON.

Reading one from a file: genotype_file.py. Drawing one at random: random_genotypes.py.
"""

import hashlib
import json
from dataclasses import dataclass, field

from models.search.fusion_cells.choices import PUBLISHED

FORMAT = 1  # of the JSON of one part
Edge = tuple[str, int]  # operation and index of the state that it reads


@dataclass(frozen=True)
class StepGenotype:
    """One fusion node: two inner edges per inner step, the operation of each inner step, the states that go out."""

    inner_edges: tuple[Edge, ...]
    inner_steps: tuple[str, ...]
    inner_concat: tuple[int, ...]

    def to_json(self) -> dict:
        return {
            "inner_edges": [list(e) for e in self.inner_edges],
            "inner_steps": list(self.inner_steps),
            "inner_concat": list(self.inner_concat),
        }


@dataclass(frozen=True)
class CellGenotype:
    """The fusion network of one place: two edges per step, a node per step, the states that go out."""

    edges: tuple[Edge, ...]
    steps: tuple[StepGenotype, ...]
    concat: tuple[int, ...]

    def to_json(self) -> dict:
        steps = [step.to_json() for step in self.steps]
        return {"edges": [list(e) for e in self.edges], "concat": list(self.concat), "steps": steps}


@dataclass(frozen=True)
class Genotype:
    """One cell per level, the names of what the cells read, and where the genotype came from (`meta`, plain values)."""

    inputs: tuple[str, ...]
    levels: tuple[str, ...]
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
        """The genotype in one line: per level, the two states that each step reads and its operations."""
        levels = []
        for level, cell in zip(self.levels, self.cells, strict=True):
            pairs = [f"{_edge_in_words(a)}+{_edge_in_words(b)}" for a, b in zip(cell.edges[::2], cell.edges[1::2])]
            steps = [f"{pair} {'/'.join(s.inner_steps)}" for pair, s in zip(pairs, cell.steps, strict=True)]
            levels.append(f"{level}: {', '.join(steps)}")
        return "; ".join(levels)

    def to_json(self) -> dict:
        """Return the object of format 1, with the content id added."""
        return {
            "format": FORMAT,
            "space": self.space,
            "id": self.id,
            "inputs": list(self.inputs),
            "levels": list(self.levels),
            "C": self.channels,
            "cells": [cell.to_json() for cell in self.cells],
            "meta": self.meta,
        }


def _edge_in_words(edge: Edge) -> str:
    return str(edge[1]) if edge[0] == "skip" else f"{edge[1]}:{edge[0].removesuffix('_3x3')}"
