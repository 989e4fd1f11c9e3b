"""Options that a command takes from the files of an earlier run or pretraining; anyone may have written these."""

import argparse
import math
from collections.abc import Callable
from typing import Any

from utils.errors import UserError, short

MAX_COUNT, MAX_SIDE = 2**20, 2**14  # of what is counted, and pixels


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_COUNT


def _is_size(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_side, value))


def _is_side(value: Any) -> bool:
    return type(value) is int and 32 <= value <= MAX_SIDE


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 2**20 and not math.isnan(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


# Options that are taken from files of earlier runs: what they may be there, and in words.
INHERITED = {
    "backbone": (_is_text, "a name"),
    "image_size": (_is_size, f"[height, width] from 32 to {MAX_SIDE} px"),
    "anchor_scale": (_is_factor, "a number above 0"),
    "C": (_is_count, "a whole number from 1"),
    "num_input_nodes": (_is_count, "a whole number from 1"),
    "fusion_levels": (_is_count, "a whole number from 1"),
    "num_classes": (_is_count, "a whole number from 1"),
    "dataset": (_is_text, "a name or a file"),
    "L": (_is_count, "a whole number from 1"),
    "small_dataset": (lambda value: isinstance(value, bool), "true or false"),
    "split_seed": (lambda value: type(value) is int and value >= 0, "a whole number from 0"),
    "paper_protocol": (lambda value: isinstance(value, bool), "true or false"),
    "overfit": (_or_none(_is_count), "a whole number from 1, or none"),
    "baseline": (_or_none(_is_text), "a name or none"),
    "widen": (_or_none(_is_count), "a whole number from 1, or none"),
    "checkpointdir": (_is_text, "a folder"),
    **dict.fromkeys(("image_cp", "text_cp", "rgb_cp", "ske_cp", "depth_cp"), (_is_text, "a file name")),
    "fullbb_path": (_is_text, "a file name"),
    "head_path": (_is_text, "a file name"),
}


def inherit(
    args: argparse.Namespace,
    values: dict,
    names: tuple[str, ...],
    over_config: bool = False,
    source: str = "the options of the run that this one builds on",
) -> None:
    """Take options that are not given from the run or checkpoint that is built on.

    Args:
        values: from a file, so each is checked.
        names: of the options, all in `INHERITED`.
        over_config: what the config gives counts as not given.
        source: names the file in messages.

    Raises:
        UserError: a value is none that the option can have.
    """
    for name in names:
        if name in values and name not in (args.typed if over_config else args.given):
            value = check_inherited(name, values[name], source)
            setattr(args, name, tuple(value) if isinstance(value, list) else value)


def check_inherited(name: str, value: Any, source: str) -> Any:
    """Return the value of an option in a file; UserError where the option cannot have it."""
    fits, expected = INHERITED[name]
    if not fits(value):
        raise UserError(f"{source}: {name}: expected {expected}, found {short(value)}")
    return value
