"""The towers bracket: from the maps of the levels to maps for classes and maps for boxes, plain, searched or found.

FAD (2007.12075), section 3.3: a tower has one set of weights for all levels. Each map keeps statistics of its own. A
plain tower is FCOS's. A searched class tower reads the box maps beside the level's, so that the gradients of classes
reach the box tower.

Shapes: maps (B, W, H_l, W_l) of level l; searched and found towers give (B, 3W, H_l, W_l), which a 1x1 convolution
reduces.
"""

from itertools import pairwise
from typing import Any

from torch import nn

from models.detection.heads.head import Maps, init_normal
from models.search.fusion_cells.genotype import Genotype
from models.search.tower_cells.found import FoundTower
from models.search.tower_cells.layers import group_norm
from models.search.tower_cells.space import TowerSpace
from models.search.tower_cells.supernet import TowerSupernet

DEPTH = 4  # layers of a plain tower


class PlainTower(nn.Sequential):
    """Four layers of 3x3 convolution, group norm and ReLU.

    Args:
        width: W, in and out.
        hidden: channels between the layers; None: W.
        norm: False leaves the norms out, as RetinaNet does.
    """

    def __init__(self, width: int, hidden: int | None = None, norm: bool = True):
        widths = [width, *[hidden or width] * (DEPTH - 1), width]
        super().__init__(*(_plain_layer(*pair, norm) for pair in pairwise(widths)))

    def over_levels(self, firsts: Maps, seconds: Maps) -> Maps:
        """Return the output for each level: of the first of its two maps."""
        return [self(x) for x in firsts]


def _plain_layer(channels_in: int, channels: int, norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, 3, padding=1)
    init_normal(conv)
    return nn.Sequential(conv, *([group_norm(channels)] if norm else []), nn.ReLU(inplace=True))


class Towers(nn.Module):
    """A box tower and a class tower.

    b = reduce(box(P, P)) and c = reduce(cls(b, P)) of the map P of a level. Plain towers read one map, P, and need no
    reduction.

    Args:
        width: W.
        box, cls: towers from two maps to 3W channels, by `over_levels`; None: a plain one.
        hidden, norm: of plain towers.
        wired: a plain class tower reads b. The control that has the wiring of searched towers alone.
    """

    def __init__(
        self,
        width: int,
        box: nn.Module | None = None,
        cls: nn.Module | None = None,
        hidden: int | None = None,
        wired: bool = False,
        norm: bool = True,
    ):
        super().__init__()
        self.box: Any = PlainTower(width, hidden, norm) if box is None else box
        self.box_reduce = _reduction(width, box)
        self.cls: Any = PlainTower(width, hidden, norm) if cls is None else cls
        self.cls_reduce = _reduction(width, cls)
        self.cls_reads_box = wired or cls is not None

    def forward(self, maps: Maps) -> tuple[Maps, Maps]:
        """Return the map for classes and the map for boxes of each level."""
        box_maps = [self.box_reduce(x) for x in self.box.over_levels(maps, maps)]
        firsts = box_maps if self.cls_reads_box else maps
        return [self.cls_reduce(x) for x in self.cls.over_levels(firsts, maps)], box_maps


def _reduction(width: int, tower: nn.Module | None) -> nn.Module:
    """Return what brings a tower's output to W channels."""
    if tower is None:
        return nn.Identity()
    conv = nn.Conv2d(3 * width, width, 1)
    init_normal(conv)
    return conv


def searchable_towers(
    space: TowerSpace, width: int, decouple: bool = True, relaxation: str = "softmax", partial: int = 1
) -> Towers:
    """Return a supernet at each place of the space, beside a plain tower where it has only one."""
    options = {"decouple": decouple, "relaxation": relaxation, "partial": partial}
    supernets = {place: TowerSupernet(space, width, space.channels, **options) for place in space.places}
    return Towers(width, **supernets)


def found_towers(genotype: Genotype, width: int, channels: int | None = None, num_cells: int = 1) -> Towers:
    """Return the towers of a genotype, beside a plain one where it has only one.

    Args:
        channels: C, inside of the edges; None: that of the search.
        num_cells: cells of each tower.
    """
    cells, inner = zip(genotype.levels, genotype.cells, strict=True), channels or genotype.channels
    return Towers(width, **{place: FoundTower(cell, width, inner, num_cells) for place, cell in cells})
