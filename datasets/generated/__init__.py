"""Made-up classification data in the published sets' formats, of which no modality alone tells the class.

A class of clips is a pair (first, second), class = first * num_second + second: one modality shows the first factor,
the other the second, and nothing else depends on the class. What a modality alone can reach is therefore known, the
number of its factor's values by that of the classes, and so is what fusion can: all.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from utils.args import Parser
from utils.errors import UserError

Number = tuple[int, tuple[float, float], str]  # the default of an option, its range, its help
ANY = (-math.inf, math.inf)


def used_labels(num: int, num_classes: int, num_second: int) -> list[int]:
    """Choose classes for a set of few: a block of pairs, so that neither factor says anything about the other.

    Args:
        num: how many; all of them, or a product of two factors, each at least 2.
        num_classes: of the published set.
    Raises:
        UserError: no such block.
    """
    if num == num_classes:
        return list(range(num))
    rows = num_classes // num_second
    sides = [(a, num // a) for a in range(2, rows + 1) if num % a == 0 and 2 <= num // a <= num_second]
    if not sides:
        known = f"{num_classes}, or a product of 2 to {rows} and 2 to {num_second}"
        raise UserError(f"--classes: expected {known}, found {num}")
    first, second = min(sides, key=lambda side: abs(side[0] - side[1]))
    return [a * num_second + b for a in range(first) for b in range(second)]


def deal(labels: list[int], count: int, random: np.random.Generator) -> list[int]:
    """Return `count` classes in a drawn order, each as often as any other, or once more."""
    rounds = [random.permutation(labels) for _ in range(-(-count // len(labels)))]
    return np.concatenate(rounds)[:count].tolist()


def by_subject(
    lists: dict[str, Iterable[int]], labels: list[int], per_subject: int, seed: int
) -> Iterator[tuple[str, int, list[int]]]:
    """Yield list, subject and classes of each subject; every list has all classes as often as can be."""
    for place, (name, subjects) in enumerate(lists.items()):
        subjects = sorted(subjects)
        dealt = deal(labels, per_subject * len(subjects), np.random.default_rng((seed, 1, place)))
        for subject in subjects:
            yield name, subject, [dealt.pop() for _ in range(per_subject)]


def parse(description: str, argv: list[str], what: str, numbers: dict[str, Number]) -> tuple[Path, dict[str, int]]:
    """Return OUT and the values of options that are whole numbers, and of the seed; UserError outside their ranges.

    Args:
        what: one of the things that are made.
    """
    numbers = numbers | {"seed": (1, (0, 2**32 - 1), f"seed of every {what} (1)")}
    parser = Parser(description)
    parser.add_argument("out", metavar="OUT", help="new or empty folder")
    for name, (default, _, text) in numbers.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", default=default, help=text)
    args = parser.parse_args(argv)
    for name, (_, (least, most), _) in numbers.items():
        if not least <= getattr(args, name) <= most:
            raise UserError(f"--{name}: expected a whole number {least} to {most}, found {getattr(args, name)}")
    return Path(args.out), {name: getattr(args, name) for name in numbers}
