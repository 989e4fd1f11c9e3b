"""Read the genotype of towers: JSON, or the text form of the public FAD code, parsed with `ast`, never evaluated.

The text form has a line `Genotype(normal=[[(OPERATION, STATE), ...], ...], normal_concat=range(2, 5))` per place. The
helpers, which name a wrong field: models/search/fusion_cells/genotype_file.py.
"""

from dataclasses import dataclass
from typing import Any

from models.search.fusion_cells.genotype import FORMAT, Genotype, Names, edge_pairs
from models.search.fusion_cells.genotype_file import (
    NOTHING,
    check,
    check_channels,
    check_values,
    get_field,
    parse_call,
    read_edges,
    read_list,
    read_meta,
)
from models.search.tower_cells.genotype import CONCAT, INPUTS, PLACES, TowerCell
from models.search.tower_cells.operations import NUM_INPUTS, NUM_NODES, PUBLISHED, SPACES
from utils.errors import UserError, short

LEVELS = (PLACES, *((place,) for place in PLACES))  # both towers, or one


@dataclass(frozen=True)
class TowerReader:
    """Reads genotypes of towers.

    Args:
        places: names of the towers; None: those of the file, or both in the text form.
        channels: C of a genotype in text form, which does not say it.
    """

    places: Names | None = None
    channels: int = 96
    spaces = tuple(SPACES)
    text_field = "normal"

    def from_json(self, data: Any, source: str) -> Genotype:
        """Return the genotype of untrusted JSON; raises UserError."""
        if not isinstance(data, dict):
            raise UserError(f"{source}: expected a genotype, an object, found {short(data)}")
        levels, space = data.get("levels", NOTHING), data.get("space", NOTHING)
        fitting = [list(places) for places in ([self.places] if self.places else LEVELS)]
        check(levels in fitting, f"{source}: field levels", " or ".join(map(str, fitting)), levels)
        check(space in list(SPACES), f"{source}: field space", " or ".join(SPACES), space)
        check_values(data, {"format": FORMAT, "inputs": list(INPUTS)}, source)
        check_channels(data, source)
        where = f"{source}: field cells"
        cells = read_list(data.get("cells"), where, len(levels), "one cell per tower")
        found = tuple(_cell(cell, f"{where}[{number}]", SPACES[space]) for number, cell in enumerate(cells))
        return Genotype(INPUTS, tuple(levels), data["C"], found, read_meta(data, source), space)

    def from_text(self, text: str, source: str) -> Genotype:
        """Return the genotype of a public text form; raises UserError."""
        places, lines = self.places or PLACES, [line for line in text.splitlines() if line.strip()]
        calls = [parse_call(line, f"{source}: line {number}") for number, line in enumerate(lines, 1)]
        if len(lines) != len(places):
            raise UserError(f"{source}: expected a line for each tower, {', '.join(places)}, found {len(lines)} lines")
        space = PUBLISHED if "dil_conv_3x3_r3" not in text else "fad12"
        cells = tuple(_cell_of_call(c, f"{source}: line {n}", SPACES[space]) for n, c in enumerate(calls, 1))
        return Genotype(INPUTS, tuple(places), self.channels, cells, space=space)


def read_cell(edges: Any, where: str, operations: Names) -> TowerCell:
    """Return the cell of untrusted edges, two per node in any order; raises UserError."""
    cell = TowerCell.of(read_edges(edges, f"{where}.edges", NUM_INPUTS, NUM_NODES, operations))
    for node, ((_, first), (_, second)) in enumerate(edge_pairs(cell.edges)):
        check(first != second, f"{where}.edges: node {node + 1}", "two different states", [first, second])
    return cell


def _cell(data: Any, where: str, operations: Names) -> TowerCell:
    """Return the cell of untrusted JSON."""
    cell = read_cell(get_field(data, "edges", where), where, operations)
    concat, steps = data.get("concat", NOTHING), data.get("steps", [])
    check(concat == list(CONCAT), f"{where}.concat", list(CONCAT), concat)
    check(steps == [], f"{where}.steps", "none in the cell of a tower", steps)
    return cell


def _cell_of_call(call: Any, where: str, operations: Names) -> TowerCell:
    """Return the cell of a line of the text form."""
    normal = f"{where}: normal"
    nodes = read_list(get_field(call, "normal", where), normal, NUM_NODES, "one per node")
    edges = [edge for node in nodes for edge in read_list(node, normal, 2, "two edges per node")]
    check_values(call, {"normal_concat": list(CONCAT)}, where)
    return read_cell(edges, normal, operations)
