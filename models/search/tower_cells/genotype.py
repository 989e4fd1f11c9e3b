"""The genotype of towers: one cell per place ("box", "cls"), two edges per node, no steps.

The JSON is that of a fusion (models/search/fusion_cells/genotype.py), its cells without steps. The text form is that of
the public FAD code, one line per place. Reading either: genotype_file.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from models.search.fusion_cells.genotype import CellGenotype, Edge, Genotype, StepGenotype, edge_pairs
from models.search.tower_cells.operations import NUM_INPUTS, NUM_NODES

PLACES = ("box", "cls")
INPUTS = ("first", "second")
CONCAT = tuple(range(NUM_INPUTS, NUM_INPUTS + NUM_NODES))


@dataclass(frozen=True)
class TowerCell(CellGenotype):
    """The cell of a tower: two edges per node, sorted by the states that they read."""

    steps: tuple[StepGenotype, ...] = ()
    concat: tuple[int, ...] = CONCAT

    @classmethod
    def of(cls, edges: Iterable[Edge]) -> "TowerCell":
        """Return the cell of two edges per node in any order, so that equal networks have one id."""
        pairs = edge_pairs(tuple(edges))
        return cls(tuple(edge for pair in pairs for edge in sorted(pair, key=lambda edge: edge[1])))

    @property
    def ends(self) -> list[tuple[int, int]]:
        """Node and source of each edge."""
        return [(place // 2, source) for place, (_, source) in enumerate(self.edges)]

    @property
    def words(self) -> str:
        """The cell in one line: state and operation of each node's two edges."""
        return ", ".join(" + ".join(f"{s}:{_short(op)}" for op, s in pair) for pair in edge_pairs(self.edges))


def to_text(genotype: Genotype) -> str:
    """Return the text form, one line per place."""
    nodes = [[list(pair) for pair in edge_pairs(cell.edges)] for cell in genotype.cells]
    return "".join(f"Genotype(normal={pairs}, normal_concat=range(2, 5))\n" for pairs in nodes)


def _short(operation: str) -> str:
    return operation.replace("_conv_3x3", "")
