"""Which architecture is trained: that of a search run, of a file, drawn from a seed, or none, for a baseline."""

import random
from pathlib import Path

from torch import nn

from engine.task import Task
from models.search.architecture import Architecture, read_architecture
from models.search.space import JointSpace
from utils.args import Options


def load_architecture(task: Task, options: Options, source: str, streams: nn.Module) -> Architecture | None:
    """Return the architecture that the options name; None for a baseline.

    Args:
        source: one of `commands.options.SOURCES`.
        streams: encoders whose taps and levels it must fit.
    """
    if source == "baseline":
        return None
    if source == "random_genotype":
        drawn = JointSpace(task.spaces(options, streams)).sample(random.Random(options.random_genotype))
        return drawn.with_meta({"random_genotype": options.random_genotype})
    path = options.genotype or Path(options.search_exp_dir) / "genotype.json"
    return read_architecture(path, task.readers(options, streams), task.needs_all_parts)
