"""Which architecture is trained: that of a search run, of a file, drawn from a seed, or none, for a baseline."""

from pathlib import Path

from torch import nn

from models.search.fusion_cells.choices import input_names
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import read_genotype
from models.search.fusion_cells.random_genotypes import random_genotype
from models.search.fusion_cells.space import Space
from utils.args import Options


def load_architecture(options: Options, source: str, streams: nn.Module, space: Space | None) -> Genotype | None:
    """Return the architecture that the options name.

    Args:
        source: one of `commands.options.SOURCES`.
        streams: whose taps and levels it must be of.
        space: that the options describe; None for a baseline.
    """
    if source == "baseline":
        return None
    taps, levels = streams.tap_names, streams.level_names
    if source == "random_genotype":
        names = input_names(options.space, taps, len(levels))
        return random_genotype(space, names, levels, options.random_genotype, options.max_parameter_free)
    path = options.genotype or Path(options.search_exp_dir) / "genotype.json"
    return read_genotype(path, taps, levels, options.C, space.rank)
