"""The fusion bracket: one network per pyramid level, searchable, found or hand-made, with one signature.

Each takes the F taps of its level, a list of maps (B, C, H, W) or one tensor, and returns one map of the same shape.
"""

from torch import nn

from models.detection.baselines import BASELINES, Widened
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import MAPS
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.layers import Features
from models.search.fusion_cells.supernet import SearchableFusion


def searchable_fusions(
    space: CellSpace, num_levels: int, dropout: float, relaxation: str = "softmax", partial: int = 1
) -> list[nn.Module]:
    """Return one supernet per level, each with weights and logits of its own."""
    return [SearchableFusion(space, dropout, relaxation, partial) for _ in range(num_levels)]


def found_fusions(genotype: Genotype, dropout: float) -> list[nn.Module]:
    """Return the fusion network of each level of a genotype."""
    return [FoundFusion(cell, Features(MAPS, genotype.channels), dropout) for cell in genotype.cells]


def baseline_fusions(name: str, channels: int, num_levels: int, widen: int | None = None) -> list[nn.Module]:
    """Return one hand-made fusion per level, followed by a bottleneck of `widen` hidden channels if that is given."""
    fusions = [BASELINES[name][1](channels) for _ in range(num_levels)]
    return fusions if widen is None else [Widened(fusion, channels, widen) for fusion in fusions]
