"""From options to the towers of a detector: searchable, of a genotype, or plain; and their search space."""

from bisect import bisect_left
from pathlib import Path
from typing import Any

import torch

from models.detection.anchors import level_sizes
from models.detection.towers import Towers, found_towers, searchable_towers
from models.search.architecture import read_architecture
from models.search.costs import macs, parameters
from models.search.fusion_cells.genotype_file import AnyFusionReader
from models.search.strategies import STRATEGIES
from models.search.tower_cells.genotype import PLACES
from models.search.tower_cells.genotype_file import TowerReader
from models.search.tower_cells.space import TowerSpace
from utils.args import Options
from utils.checkpoint import State
from utils.errors import UserError

WIRED = "fcos_wired"  # the baseline whose class tower reads the box tower
MATCH = 0.10  # how far the cost of a widened network may be from what it matches
WIDEST = 8  # times the channels outside
MEASURES_BY_OPTION = {"match_parameters": parameters, "match_macs": macs}


def inner_channels(width: int) -> int:
    """Return the channels inside of cells on a fused detector of W channels: 3/8 of them, as 96 are of 256."""
    return max(width * 3 // 8, 1)


def searched_places(options: Options) -> tuple[str, ...]:
    """Return the towers that are cells."""
    return PLACES if options.towers == "both" else (options.towers,)


def make_space(options: Options) -> TowerSpace:
    """Return the search space of the towers."""
    values = {"derivation": options.derive} if "derive" in options else {}
    finest = level_sizes(options.image_size, 1)[0]
    sizes = {"channels": options.head_channels, "map_size": finest}
    return TowerSpace(places=searched_places(options), name=options.tower_space, **sizes, **values)


def make_reader(options: Options) -> TowerReader:
    """Return what reads genotypes of the towers."""
    return TowerReader(searched_places(options), options.head_channels)


def of_search(options: Options) -> Towers:
    """Return towers of which those that --towers names are supernets."""
    strategy = STRATEGIES[options.strategy]
    learning = {"relaxation": strategy.relaxation, "partial": strategy.partial}
    return searchable_towers(make_space(options), options.C, not options.no_decouple, **learning)


def of_genotype(options: Options, genotype: Any) -> Towers:
    """Return towers of which those that a genotype has are its cells."""
    return found_towers(genotype, options.C, options.head_channels, options.head_cells)


def plain(options: Options, hidden: int | None = None) -> Towers:
    """Return plain towers; `hidden`: channels inside, of widened ones."""
    return Towers(options.C, hidden=hidden, wired=options.baseline == WIRED, norm=options.head == "fcos")


def head_classes(state: State, source: str) -> int:
    """Return the number of classes of FCOS's predictors; raises UserError where there are none."""
    shape = tuple(getattr(state.get("cls_logits.weight"), "shape", ()))
    if len(shape) != 4:
        raise UserError(f"{source}: head.cls_logits.weight: expected shape (classes, C, 3, 3), found {shape}")
    return shape[0]


def check_sizes(options: Options, model: State, source: str) -> None:
    """Refuse sizes of towers that are missing, or larger than the tensors of a file."""
    largest = max(len(model), *(value.numel() for value in model.values() if isinstance(value, torch.Tensor)))
    sizes = {"head_channels": options.head_channels, "head_cells": options.head_cells, "widen": options.widen or 0}
    for name, size in sizes.items():
        if size is None or size > largest:
            raise UserError(f"{source}: args.{name}: expected a size of the tensors in model, found {size}")


def matching_width(options: Options) -> int | None:
    """Return the channels inside of plain towers that cost as much as those of a genotype; None where none is named.

    Raises:
        UserError: parameters and multiplications are both to be matched, or there is no baseline, or no whole number of
            channels comes within 10 %.
    """
    named = [name for name in MEASURES_BY_OPTION if options[name]]
    if not named:
        return None
    if len(named) > 1 or not options.baseline:
        raise UserError(f"--{named[0]}: expected --baseline beside it and no other --match option")
    path, measure = Path(options[named[0]]), MEASURES_BY_OPTION[named[0]]
    path = path / "genotype.json" if path.is_dir() else path
    readers = {"fusion": AnyFusionReader(), "head": TowerReader(None, options.head_channels)}
    parts = read_architecture(path, readers, complete=False).parts
    if "head" not in parts:
        raise UserError(f"--{named[0]} {path}: field parts: expected a genotype of head, found {', '.join(parts)}")
    genotype = parts["head"]
    position = [[torch.zeros(1, options.C, 1, 1)]]
    wanted = measure(of_genotype(options, genotype), position)

    def cost(hidden: int) -> float:
        return measure(plain(options, hidden), position)

    width = bisect_left(range(1, WIDEST * options.C), wanted, key=cost) + 1
    width = min((width, max(width - 1, 1)), key=lambda hidden: abs(cost(hidden) - wanted))
    if abs(cost(width) - wanted) > MATCH * wanted:
        found = f"with {width} channels inside they have {cost(width):g}, not within {MATCH:.0%}"
        raise UserError(f"--{named[0]} {path}: expected plain towers of {wanted:g}; {found}")
    return width
