"""Genotypes: what a search found, as frozen dataclasses and versioned JSON.

A genotype holds one cell per pyramid level, of a space (spaces.py); reading one from a file is genotype_io.py, drawing
one random_genotypes.py.
"""

import hashlib
import json
from dataclasses import dataclass, field

from models.search.fusion_cells.choices import PUBLISHED

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
