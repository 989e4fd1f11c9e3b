"""A found tower: the cells of a genotype, kept edges and operations only (FAD, 2007.12075, section 3.3).

Differs from the supernet (supernet.py) by biases of the 1x1 convolutions of edges and by the lack of decoupling.

Shapes: maps (B, W, H, W'); B batch, W outer channels, C inner channels.
"""

from itertools import pairwise

from torch import Tensor, nn

from models.search.tower_cells.genotype import TowerCell
from models.search.tower_cells.layers import group_norm, make_layer, run_cell
from models.search.tower_cells.operations import CHAINS


class FoundEdge(nn.Module):
    """An edge with one operation."""

    def __init__(self, operation: str, width: int, channels: int):
        super().__init__()
        self.enter = nn.Conv2d(width, channels, 1)
        self.layers = nn.Sequential(*(make_layer(kind, channels) for kind in CHAINS[operation]))
        self.leave = nn.Conv2d(channels, width, 1)


class FoundCell(nn.Module):
    """A cell of a genotype.

    Args:
        cell: genotype of the cell.
        width: W.
        channels: C.
        input_widths: channels of the two inputs; one that differs from W is first brought to W ("prepare").
    """

    def __init__(self, cell: TowerCell, width: int, channels: int, input_widths: tuple[int, int]):
        super().__init__()
        self.ends = cell.ends
        self.prepare = nn.ModuleList(prepare(channels_in, width) for channels_in in input_widths)
        self.edges = nn.ModuleList(FoundEdge(operation, width, channels) for operation, _ in cell.edges)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        edges = dict(zip(self.ends, self.edges, strict=True))
        s0, s1 = (layer(state) for layer, state in zip(self.prepare, (s0, s1), strict=True))
        return run_cell(s0, s1, edges, lambda entered: {edge: edges[edge].layers(x) for edge, x in entered.items()})


class FoundTower(nn.Module):
    """Cells of one genotype, each on the second input and the output of the one before.

    Args:
        cell: genotype of the cells.
        width: W, of both inputs.
        channels: C; may differ from that of the search.
        num_cells: number of cells.
    """

    def __init__(self, cell: TowerCell, width: int, channels: int, num_cells: int = 1):
        super().__init__()
        widths = pairwise([width, width, *[3 * width] * (num_cells - 1)])
        self.cells = nn.ModuleList(FoundCell(cell, width, channels, pair) for pair in widths)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Return (B, 3W, H, W') of two maps (B, W, H, W')."""
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return s1

    def over_levels(self, firsts: list[Tensor], seconds: list[Tensor]) -> list[Tensor]:
        """Return the output for each level of a pyramid: lists of s0 and s1."""
        return [self(s0, s1) for s0, s1 in zip(firsts, seconds, strict=True)]


def prepare(channels_in: int, width: int) -> nn.Module:
    """Return what brings maps to W channels: 1x1 convolution, norm, ReLU; nothing where they have W."""
    if channels_in == width:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, width, 1), group_norm(width), nn.ReLU(inplace=True))
