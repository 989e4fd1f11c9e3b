"""Cut all records of a data set into folds, for cross-validation, without neighbours in training and test.

Two frames are neighbours if their names differ in the last number alone, by at most `NEAR`: in a video these are nearly
equal. A run of neighbours is not divided, unless it is longer than a fold or than `MAX_BLOCK`; where it is, the
neighbours of a fold are left out when the other folds are learned from.

The folds follow from the names alone. Blocks of runs go to the folds in the order of file numbers, round after round,
so that each fold has frames of the whole range of numbers.
"""

import math

from datasets.splits import MAX_BLOCK, number_key
from utils.errors import UserError

NEAR = 10  # file numbers; FLIR's are of one or two frames a second
BLOCKS_PER_FOLD = 4  # at least, where runs are short


def make_folds(file_names: list[str], num_folds: int) -> list[list[str]]:
    """Deal blocks of neighbouring files to folds of nearly equal size.

    Args:
        file_names: unique names, in any order.
        num_folds: 2 or more.
    Returns:
        The names of each fold, in the order of file numbers.
    Raises:
        UserError: there are fewer blocks than folds.
    """
    blocks = make_blocks(file_names, num_folds)
    if len(blocks) < num_folds:
        blocks_found = f"{len(blocks)} (of {len(file_names)} names)"
        raise UserError(f"--folds {num_folds}: expected at least as many blocks of neighbours, found {blocks_found}")
    folds: list[list[str]] = [[] for _ in range(num_folds)]
    for start in range(0, len(blocks), num_folds):
        dealt = sorted(blocks[start : start + num_folds], key=len, reverse=True)
        for block, fold in zip(dealt, sorted(folds, key=len)):
            fold += block
    return [sorted(fold, key=number_key) for fold in folds]


def outside(file_names: list[str], fold: list[str]) -> tuple[list[str], list[str]]:
    """Return the names outside of a fold: those that may be learned from, and the neighbours of the fold."""
    tested = set(fold)
    names = [name for name in file_names if name not in tested]
    numbers: dict[object, list[int]] = {}
    for video, number in map(place, fold):
        numbers.setdefault(video, []).append(number)
    near = {name for name in names if _distance(place(name), numbers) <= NEAR}
    return [name for name in names if name not in near], sorted(near, key=number_key)


def place(name: str) -> tuple[object, int]:
    """Return what must be equal in the names of neighbours, and the number that may differ; 0 without one."""
    pieces, _ = number_key(name)
    if len(pieces) == 1:
        return name, 0
    return (*pieces[:-2], pieces[-1]), pieces[-2]


def _distance(frame: tuple[object, int], numbers: dict[object, list[int]]) -> float:
    video, number = frame
    return min((abs(number - other) for other in numbers.get(video, ())), default=float("inf"))


def make_blocks(file_names: list[str], num_folds: int) -> list[list[str]]:
    """Join runs of neighbours to blocks, of which each fold gets several; in the order of file numbers."""
    names = sorted(file_names, key=number_key)
    longest = min(math.ceil(len(names) / num_folds), MAX_BLOCK)
    shortest = min(max(len(names) // (num_folds * BLOCKS_PER_FOLD), 1), MAX_BLOCK)
    blocks: list[list[str]] = []
    for piece in (piece for run in _runs(names) for piece in _pieces(run, longest)):
        if blocks and len(blocks[-1]) < shortest:
            blocks[-1] += piece
        else:
            blocks.append(piece)
    return blocks


def _pieces(run: list[str], longest: int) -> list[list[str]]:
    """Divide a run evenly into pieces of at most `longest` names."""
    count = math.ceil(len(run) / longest)
    return [run[len(run) * i // count : len(run) * (i + 1) // count] for i in range(count)]


def _runs(names: list[str]) -> list[list[str]]:
    """Cut sorted names wherever two are not neighbours."""
    runs: list[list[str]] = []
    for name in names:
        last = place(runs[-1][-1]) if runs else None
        if last is not None and _distance(place(name), {last[0]: [last[1]]}) <= NEAR:
            runs[-1].append(name)
        else:
            runs.append([name])
    return runs
