"""Read the genotype of a fusion: JSON, or the text form of the public NAS-DSF code, parsed with `ast`, never evaluated.

Validation names the wrong field, and bounds what is built from it. The file around it: models/search/architecture.py.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from models.search.fusion_cells import choices
from models.search.fusion_cells.choices import INNER_EDGES, MAPS, PUBLISHED, SPACES, Choices
from models.search.fusion_cells.genotype import FORMAT, CellGenotype, Edge, Genotype, Names, StepGenotype
from utils.errors import UserError, short
from utils.untrusted import check_plain

MAX_STEPS = 64  # of a cell, and inside of a step
MAX_INPUTS, MAX_LEVELS, MAX_NAME = 256, 16, 60  # of a file that brings its own; names are shown
NOTHING = object()  # found where a field is missing


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
    text_field = "edges"

    @property
    def spaces(self) -> list[str]:
        return choices.spaces_of(self.rank)

    def from_json(self, data: Any, source: str) -> Genotype:
        """Return the genotype of untrusted JSON; raises UserError."""
        data = data if isinstance(data, dict) else {}
        space = data["space"] if data.get("space") in self.spaces else self.spaces[0]
        inputs, levels = choices.input_names(space, tuple(self.taps), len(self.levels)), tuple(self.levels)
        sizes = {"inputs": list(inputs), "levels": list(levels), "C": self.channels}
        check_values(data, {"format": FORMAT, "space": space} | sizes, source)
        meta = read_meta(data, source)
        cells = _cells(data.get("cells"), source, len(inputs), len(levels), SPACES[space])
        return Genotype(inputs, levels, self.channels, cells, meta, space)

    @property
    def from_text(self) -> Callable[[str, str], Genotype] | None:
        """What reads the public text form; None where the streams give no maps."""
        names = {"inputs": tuple(self.taps), "levels": tuple(self.levels), "channels": self.channels}
        return partial(parse_text, **names) if self.rank == MAPS else None


class AnyFusionReader:
    """Reads genotypes of any streams: inputs, levels and channels are the file's own."""

    spaces = tuple(SPACES)

    def from_json(self, data: Any, source: str) -> Genotype:
        """Return the genotype of untrusted JSON; raises UserError."""
        if not isinstance(data, dict):
            raise UserError(f"{source}: expected a genotype, an object, found {short(data)}")
        for name, most in (("inputs", MAX_INPUTS), ("levels", MAX_LEVELS)):
            names = data.get(name)
            fits = isinstance(names, list) and 1 <= len(names) <= most and all(map(_is_short_name, names))
            check(fits, f"{source}: field {name}", f"a list of 1 to {most} names", names)
        check_channels(data, source)
        taps = [name for name in data["inputs"] if not choices.is_neighbour(name)]
        rank = SPACES[data["space"]].rank if data.get("space") in list(SPACES) else MAPS
        return FusionReader(taps, data["levels"], data["C"], rank).from_json(data, source)


def _is_short_name(name) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME


def check_values(data: dict, values: dict, source: str) -> None:
    """Raise UserError unless the fields have these values."""
    for name, value in values.items():
        fits = type(data.get(name)) is type(value) and data[name] == value
        check(fits, f"{source}: field {name}", value, data.get(name, NOTHING))


def check_channels(data: dict, source: str) -> None:
    fits = type(data.get("C")) is int and 1 <= data["C"] < 2**20
    check(fits, f"{source}: field C", "a whole number from 1", data.get("C"))


def read_meta(data: dict, source: str) -> dict:
    """Return the plain values that say where a genotype came from."""
    meta = data.get("meta", {})
    check(isinstance(meta, dict), f"{source}: field meta", "an object", meta)
    check_plain(meta, f"{source}: field meta")
    return meta


def parse_text(text: str, source: str, inputs: Names, levels: Names, channels: int) -> Genotype:
    """Read `Genotype(edges=[...], steps=[StepGenotype(...)], concat=[...])`, or a list of them, without evaluating it.

    A single one is used on every level.
    """
    data = parse_call(text, source)
    data = data if isinstance(data, list) else [data] * len(levels)
    return Genotype(inputs, levels, channels, _cells(data, source, len(inputs), len(levels), SPACES[PUBLISHED]))


def parse_call(text: str, source: str) -> Any:
    """Return the plain values of Genotype(...), or of a list of them; raises UserError."""
    try:
        return plain_value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        found = str(error)[:200]
        raise UserError(f"{source}: expected genotype JSON or the text form Genotype(...), found: {found}") from None


def plain_value(node: ast.expr):
    """Turn a syntax tree of literals, of the two constructors and of range(a, b) into plain values."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        first, end = map(ast.literal_eval, node.args)
        return list(range(first, min(end, first + MAX_INPUTS + MAX_STEPS)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Genotype", "StepGenotype"):
        if node.args or any(k.arg is None for k in node.keywords):
            raise ValueError(f"{node.func.id} takes keyword arguments only")
        return {k.arg: plain_value(k.value) for k in node.keywords}
    if isinstance(node, ast.List | ast.Tuple):
        return [plain_value(n) for n in node.elts]
    return ast.literal_eval(node)


def _cells(data: Any, source: str, num_inputs: int, num_levels: int, space: Choices) -> tuple[CellGenotype, ...]:
    cells = read_list(data, f"{source}: field cells", num_levels, "one cell per level")
    return tuple(_cell(c, f"{source}: field cells[{i}]", num_inputs, space) for i, c in enumerate(cells))


def _cell(data: Any, where: str, num_inputs: int, space: Choices) -> CellGenotype:
    steps = _steps(data, "steps", where, "steps")
    edges = read_edges(get_field(data, "edges", where), f"{where}.edges", num_inputs, len(steps), space.edges[1:])
    nodes = tuple(_step(s, f"{where}.steps[{i}]", space.fusions) for i, s in enumerate(steps))
    return CellGenotype(edges, nodes, _indices(data, "concat", where, num_inputs + len(steps)))


def _step(data: Any, where: str, fusions: Names) -> StepGenotype:
    ops = _steps(data, "inner_steps", where, "operations")
    for i, op in enumerate(ops):
        _check_operation(op, fusions, f"{where}.inner_steps[{i}]")
    edges = read_edges(get_field(data, "inner_edges", where), f"{where}.inner_edges", 2, len(ops), INNER_EDGES[1:])
    return StepGenotype(edges, tuple(ops), _indices(data, "inner_concat", where, 2 + len(ops)))


def _steps(data: Any, name: str, where: str, what: str) -> list:
    steps = read_list(get_field(data, name, where), f"{where}.{name}")
    if not 1 <= len(steps) <= MAX_STEPS:
        raise UserError(f"{where}.{name}: expected 1 to {MAX_STEPS} {what}, found {len(steps)}")
    return steps


def read_edges(data: Any, where: str, num_first: int, num_steps: int, names: Names) -> tuple[Edge, ...]:
    for i, edge in enumerate(read_list(data, where, 2 * num_steps, "two per step")):
        check(isinstance(edge, list) and len(edge) == 2, f"{where}[{i}]", "[operation, index]", edge)
        _check_operation(edge[0], names, f"{where}[{i}]")
        _check_index(edge[1], f"{where}[{i}]", num_first + i // 2)
    return tuple((op, index) for op, index in data)


def _indices(data: Any, name: str, where: str, limit: int) -> tuple[int, ...]:
    where, indices = f"{where}.{name}", get_field(data, name, where)
    if not read_list(indices, where):
        raise UserError(f"{where}: expected at least one index, found none")
    for i, value in enumerate(indices):
        _check_index(value, f"{where}[{i}]", limit)
    check(len(set(indices)) == len(indices), where, "each index once", indices)
    return tuple(indices)


def get_field(data: Any, name: str, where: str) -> Any:
    check(isinstance(data, dict) and name in data, where, f"an object with the field {name}", data)
    return data[name]


def read_list(data: Any, where: str, length: int | None = None, what: str = "") -> list:
    check(isinstance(data, list), where, "a list", data)
    if length is not None and len(data) != length:
        raise UserError(f"{where}: expected {length} entries ({what}), found {len(data)}")
    return data


def _check_index(value: Any, where: str, limit: int) -> None:
    check(type(value) is int and 0 <= value < limit, where, f"an index from 0 to {limit - 1}", value)


def _check_operation(value: Any, allowed: Names, where: str) -> None:
    fits = isinstance(value, str) and value in allowed
    check(fits, where, f"an operation of {', '.join(allowed)}", value)


def check(fits: bool, where: str, expected: Any, found: Any) -> None:
    if not fits:
        raise UserError(f"{where}: expected {expected}, found {'nothing' if found is NOTHING else short(found)}")
