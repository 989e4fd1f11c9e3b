"""What options may be: argparse types whose errors say what was expected and found."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path


def number(convert: Callable[[str], float], name: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return an argparse type that says what it expected: "expected a whole number from 1, found '-3'"."""

    def read(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"expected {name}, found {text!r}")
        return value

    read.metavar = "N" if convert is int else "X"
    return read


positive = number(int, "a whole number from 1", lambda v: v >= 1)
count = number(int, "a whole number from 0", lambda v: v >= 0)
seed = number(int, "a whole number from 0 to 4294967295", lambda v: 0 <= v < 2**32)
not_negative = number(float, "a number from 0", lambda v: 0 <= v < float("inf"))
factor = number(float, "a factor from 0.1 to 10", lambda v: 0.1 <= v <= 10)
above_zero = number(float, "a number above 0", lambda v: 0 < v < float("inf"))
share = number(float, "a number from 0 to 1", lambda v: 0 <= v <= 1)
probability = number(float, "a number from 0 to below 1", lambda v: 0 <= v < 1)


def names(text: str) -> str:
    """Check the text of a list of names such as A,B."""
    found = text.split(",")
    if not all(name.isidentifier() for name in found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"expected different names separated by commas, found {text!r}")
    return text


def interval(text: str) -> str:
    """Check the text of --checkpoint_every: `200` steps, or a time as `10m`, `30s`, `2h`."""
    if not re.fullmatch(r"[1-9]\d{0,8}[smh]?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected a number of steps, or a time as 30s, 10m or 2h, found {text!r}")
    return text


def image_size(text: str) -> tuple[int, int]:
    """Read `256` (square) or `256x320` (height x width)."""
    sides = [int(side) if side.isdecimal() else 0 for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 32:
        raise argparse.ArgumentTypeError(f"expected N or HxW, each of at least 32 pixels, found {text!r}")
    return sides[0], sides[-1]


def output_file(suffix: str = "") -> Callable[[str], Path]:
    """Return an argparse type: the path of a file to write, with this suffix, in a folder that exists."""

    def read(text: str) -> Path:
        path = Path(text)
        taken = path.exists() and not path.is_file()  # by a folder or a device
        if taken or not path.parent.is_dir() or (suffix and path.suffix.lower() != suffix):
            expected = f"expected a {suffix} file".replace("  ", " ")
            raise argparse.ArgumentTypeError(f"{expected} in a folder that exists, found {text!r}")
        return path

    return read
