"""Draw towers: one panel per tower, from its two input maps on the left to the concatenated nodes on the right.

A node has a box for the operation of each of its two edges. The panels are those of a fusion
(models/search/fusion_cells/draw.py), but for what stands in a node.
"""

from pathlib import Path

from models.search.fusion_cells import draw
from models.search.fusion_cells.choices import MAPS
from models.search.fusion_cells.draw import draw_box, draw_text
from models.search.fusion_cells.genotype import Genotype, edge_pairs
from models.search.tower_cells.genotype import TowerCell

MAP, BOX_OUTPUT = "map of a level", "box output"
INPUTS = {("box",): (MAP, MAP), ("cls",): (MAP, MAP), ("box", "cls"): (MAP, MAP, BOX_OUTPUT, MAP)}
FAMILY_COLOURS = {"std": "#A9D8F5", "sin": "#8FD4BC"}
LANES = 0.12, -0.3  # heights of the operations inside a node, from its middle
FOOT = "One cell for all levels. Node: the sum of its two edges, each 1×1 conv, operation, 1×1 conv."


def draw_towers(genotype: Genotype, path: str | Path) -> Path:
    """Write a PNG file of every tower's cell and return its path; its folder must exist."""
    return draw.draw_panels(genotype, panels_of(genotype), FOOT, path)


def panels_of(genotype: Genotype) -> list[draw.Panel]:
    """Return the drawing of each tower's cell."""
    names = INPUTS[genotype.levels]
    return [TowerPanel(names[2 * n : 2 * n + 2], cell) for n, cell in enumerate(genotype.cells)]


class TowerPanel(draw.Panel):
    """The drawing of one tower's cell."""

    def __init__(self, inputs: tuple[str, ...], cell: TowerCell):
        super().__init__(inputs, cell, MAPS)

    def _port_y(self, step: int, port: int) -> float:
        return self._step_y(step) + LANES[port]

    def _colour(self, state: int) -> str:
        return (draw.WARM, draw.COOL, *[draw.STEP_COLOUR] * self.num_steps)[state]

    def _draw_edge(self, step: int, port: int, operation: str, state: int) -> None:
        super()._draw_edge(step, port, "skip", state)  # the operation stands in the node

    def _draw_step(self, number: int) -> None:
        """Draw a node: a box per edge, and the sum."""
        left, y = self.left + self.step_left, self._step_y(number)
        draw_box(self.axes, left, y - draw.STEP_HEIGHT / 2, self.step_width, draw.STEP_HEIGHT, "white", "#444444", 1.4)
        draw_text(self.axes, left + 0.1, y + 0.42, f"node {number + 1}", 8.5, weight="bold")
        width, height = self.step_width - 0.8, draw.OP_HEIGHT
        for port, (operation, _) in enumerate(edge_pairs(self.cell.edges)[number]):
            x, middle = left + 0.2, self._port_y(number, port)
            draw_box(self.axes, x, middle - height / 2, width, height, FAMILY_COLOURS[operation[:3]], draw.INK)
            label = in_words(operation)
            draw_text(self.axes, x + width / 2, middle, label, 9, draw.DARK_ON, zorder=5, **draw.CENTRED)
        draw_text(self.axes, left + self.step_width - 0.3, y + sum(LANES) / 2, "+", 16, **draw.CENTRED)


def in_words(operation: str) -> str:
    """Return the name of an operation as pictures show it: sinSep_conv_3x3_x2+dil_conv_3x3 is sinSep ×2 + dil."""
    return operation.replace("_conv_3x3", "").replace("_x", " ×").replace("_", " ").replace("+", " + ")
