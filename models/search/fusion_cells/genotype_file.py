"""Read the genotype of a fusion: JSON, or the text form of the public NAS-DSF code, parsed with `ast`, never evaluated.

Validation names the wrong field, and bounds what is built from it. The file around it: models/search/architecture.py.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.search.fusion_cells.choices import (
    INNER_EDGES,
    MAPS,
    PUBLISHED,
    SPACES,
    input_names,
    is_neighbour,
    spaces_of,
)
from models.search.fusion_cells.genotype import FORMAT, CellGenotype, Edge, Genotype, StepGenotype
from utils.errors import UserError, short
from utils.untrusted import check_plain

MAX_STEPS = 64  # of a cell, and inside of a step
MAX_INPUTS, MAX_LEVELS, MAX_NAME = 256, 16, 60  # of a file that brings its own; names are shown


class Allowed(NamedTuple):
    """What a genotype may name: operations of its cells' edges, and fusion operations."""

    edges: tuple[str, ...]
    fusions: tuple[str, ...]

    @classmethod
    def of(cls, space: str) -> "Allowed":
        return cls(SPACES[space].edges[1:], SPACES[space].fusions)


@dataclass(frozen=True)
class FusionReader:
    """Reads genotypes that fit given streams.

    Args:
        taps: names of a level's own taps; inputs from neighbouring levels follow from the genotype's space.
        levels: names of the places.
        channels: C.
        rank: of the features that the streams give; the text form is of maps alone.
    """

    taps: Sequence[str]
    levels: Sequence[str]
    channels: int
    rank: int = MAPS

    @property
    def spaces(self) -> list[str]:
        return spaces_of(self.rank)

    def from_json(self, data: Any, source: str) -> Genotype:
        """Return the genotype of untrusted JSON; raises UserError."""
        space, known = data.get("space") if isinstance(data, dict) else None, self.spaces
        space = space if space in known else known[0]
        names = list(input_names(space, tuple(self.taps), len(self.levels)))
        expected = {"format": FORMAT, "space": space, "inputs": names, "levels": list(self.levels), "C": self.channels}
        for name, value in expected.items():
            if not isinstance(data, dict) or name not in data:
                raise UserError(f"{source}: field {name}: expected {value}, found nothing")
            if type(data[name]) is not type(value) or data[name] != value:
                raise UserError(f"{source}: field {name}: expected {value}, found {short(data[name])}")
        meta = data.get("meta", {})
        if not isinstance(meta, dict):
            raise UserError(f"{source}: field meta: expected an object, found {short(meta)}")
        check_plain(meta, f"{source}: field meta")
        cells = _cells(data.get("cells"), source, len(names), len(self.levels), Allowed.of(space))
        return Genotype(tuple(names), tuple(self.levels), self.channels, cells, meta, space)

    @property
    def from_text(self):
        """What reads the public text form; None where the streams give no maps."""
        return self._from_text if self.rank == MAPS else None

    def _from_text(self, text: str, source: str) -> Genotype:
        return parse_text(text, source, tuple(self.taps), tuple(self.levels), self.channels)


class AnyFusionReader:
    """Reads genotypes of any streams: inputs, levels and channels are the file's own."""

    spaces = tuple(SPACES)

    def from_json(self, data: Any, source: str) -> Genotype:
        """Return the genotype of untrusted JSON; raises UserError."""
        if not isinstance(data, dict):
            raise UserError(f"{source}: expected a genotype, an object, found {short(data)}")
        check_names(data, source)
        taps = [name for name in data["inputs"] if not is_neighbour(name)]
        rank = SPACES[data["space"]].rank if data.get("space") in list(SPACES) else MAPS
        return FusionReader(taps, data["levels"], data["C"], rank).from_json(data, source)


def check_names(data: dict, source: str) -> None:
    """Refuse genotype JSON whose own inputs, levels or channels are none; see `FusionReader` for the rest."""
    for name, most in (("inputs", MAX_INPUTS), ("levels", MAX_LEVELS)):
        names = data.get(name)
        if not isinstance(names, list) or not 1 <= len(names) <= most or not all(map(_is_short_name, names)):
            raise UserError(f"{source}: field {name}: expected a list of 1 to {most} names, found {short(names)}")
    channels = data.get("C")
    if type(channels) is not int or not 1 <= channels < 2**20:
        raise UserError(f"{source}: field C: expected a whole number from 1, found {short(channels)}")


def _is_short_name(name) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME


def parse_text(text: str, source: str, inputs: tuple[str, ...], levels: tuple[str, ...], channels: int) -> Genotype:
    """Read `Genotype(edges=[...], steps=[StepGenotype(...)], concat=[...])`, or a list of them, without evaluating it.

    A single one is used on every level.
    """
    try:
        data = _plain(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        found = str(error)[:200]
        raise UserError(f"{source}: expected genotype JSON or the text form Genotype(...), found: {found}") from None
    data = data if isinstance(data, list) else [data] * len(levels)
    cells = _cells(data, source, len(inputs), len(levels), Allowed.of(PUBLISHED))
    return Genotype(tuple(inputs), tuple(levels), channels, cells)


def _plain(node: ast.expr):
    """Turn a syntax tree of literals and the two constructors into plain values."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Genotype", "StepGenotype"):
        if node.args or any(k.arg is None for k in node.keywords):
            raise ValueError(f"{node.func.id} takes keyword arguments only")
        return {k.arg: _plain(k.value) for k in node.keywords}
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(n) for n in node.elts]
    return ast.literal_eval(node)


def _cells(data, source: str, num_inputs: int, num_levels: int, allowed: Allowed) -> tuple[CellGenotype, ...]:
    cells = _list(data, f"{source}: field cells", num_levels, "one cell per level")
    return tuple(_cell(c, f"{source}: field cells[{i}]", num_inputs, allowed) for i, c in enumerate(cells))


def _cell(data, where: str, num_inputs: int, allowed: Allowed) -> CellGenotype:
    steps = _list(_get(data, "steps", where), f"{where}.steps")
    _check_number(steps, f"{where}.steps", "steps")
    edges = _edges(_get(data, "edges", where), f"{where}.edges", num_inputs, len(steps), allowed.edges)
    nodes = tuple(_step(s, f"{where}.steps[{i}]", allowed.fusions) for i, s in enumerate(steps))
    concat = _indices(_get(data, "concat", where), f"{where}.concat", num_inputs + len(steps))
    return CellGenotype(edges, nodes, concat)


def _step(data, where: str, fusions: tuple[str, ...]) -> StepGenotype:
    ops = _list(_get(data, "inner_steps", where), f"{where}.inner_steps")
    _check_number(ops, f"{where}.inner_steps", "operations")
    for i, op in enumerate(ops):
        _one_of(op, fusions, f"{where}.inner_steps[{i}]")
    edges = _edges(_get(data, "inner_edges", where), f"{where}.inner_edges", 2, len(ops), INNER_EDGES[1:])
    concat = _indices(_get(data, "inner_concat", where), f"{where}.inner_concat", 2 + len(ops))
    return StepGenotype(edges, tuple(ops), concat)


def _check_number(steps: list, where: str, what: str) -> None:
    if not 1 <= len(steps) <= MAX_STEPS:
        raise UserError(f"{where}: expected 1 to {MAX_STEPS} {what}, found {len(steps)}")


def _get(data, name: str, where: str):
    if not isinstance(data, dict) or name not in data:
        raise UserError(f"{where}: expected an object with the field {name}, found {short(data)}")
    return data[name]


def _list(data, where: str, length: int | None = None, what: str = "") -> list:
    if not isinstance(data, list):
        raise UserError(f"{where}: expected a list, found {short(data)}")
    if length is not None and len(data) != length:
        raise UserError(f"{where}: expected {length} entries ({what}), found {len(data)}")
    return data


def _edges(data, where: str, num_first: int, num_steps: int, names: tuple[str, ...]) -> tuple[Edge, ...]:
    edges = _list(data, where, 2 * num_steps, "two per step")
    for i, edge in enumerate(edges):
        if not isinstance(edge, list) or len(edge) != 2:
            raise UserError(f"{where}[{i}]: expected [operation, index], found {short(edge)}")
        _one_of(edge[0], names, f"{where}[{i}]")
        _index(edge[1], f"{where}[{i}]", num_first + i // 2)
    return tuple((op, index) for op, index in edges)


def _indices(data, where: str, limit: int) -> tuple[int, ...]:
    if not _list(data, where):
        raise UserError(f"{where}: expected at least one index, found none")
    for i, value in enumerate(data):
        _index(value, f"{where}[{i}]", limit)
    if len(set(data)) < len(data):
        raise UserError(f"{where}: expected each index once, found {short(data)}")
    return tuple(data)


def _index(value, where: str, limit: int) -> None:
    if type(value) is not int or not 0 <= value < limit:
        raise UserError(f"{where}: expected an index from 0 to {limit - 1}, found {short(value)}")


def _one_of(value, allowed: tuple[str, ...], where: str) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{where}: expected an operation of {', '.join(allowed)}, found {short(value)}")
