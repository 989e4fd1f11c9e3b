"""Folds: a partition, of nearly equal size, without neighbours in training and test."""

import random
import re

import pytest

from datasets.folds import NEAR, make_folds, outside
from utils.errors import UserError


def frame(number: int) -> str:
    return f"FLIR_{number:05d}_PreviewData.jpg"


def numbers_of(names: list[str]) -> list[int]:
    return [int(re.search(r"\d+", name)[0]) for name in names]


def sampled(seed: int, count: int = 141) -> list[str]:
    """Draw frames of videos as in a small share of FLIR: now single, now a few in a row."""
    draws, numbers = random.Random(seed), [0]
    while len(numbers) < count:
        numbers.append(numbers[-1] + draws.choice((1, 3, NEAR, NEAR + 1, 60, 200)))
    return [frame(number) for number in numbers]


def in_a_row(count: int = 900) -> list[str]:
    return [frame(number) for number in range(count)]


@pytest.mark.parametrize("num_folds", [2, 5, 10])
@pytest.mark.parametrize("names", [sampled(0), sampled(1), in_a_row()], ids=["sampled", "sampled 1", "in a row"])
def test_each_name_is_in_one_fold(names, num_folds):
    folds = make_folds(names, num_folds)
    assert len(folds) == num_folds
    assert sorted(name for fold in folds for name in fold) == sorted(names)
    assert max(map(len, folds)) - min(map(len, folds)) <= min(len(names) // num_folds, 32)


@pytest.mark.parametrize("num_folds", [2, 10])
@pytest.mark.parametrize("names", [sampled(0), sampled(2), in_a_row()], ids=["sampled", "sampled 2", "in a row"])
def test_no_frame_that_is_learned_from_is_near_one_that_is_tested_on(names, num_folds):
    for fold in make_folds(names, num_folds):
        learned, near = outside(names, fold)
        distances = [min(abs(a - b) for b in numbers_of(fold)) for a in numbers_of(learned)]
        assert learned
        assert min(distances) > NEAR
        assert all(min(abs(a - b) for b in numbers_of(fold)) <= NEAR for a in numbers_of(near))
        assert sorted(learned + near + fold) == sorted(names)


def test_runs_of_neighbours_are_whole_so_that_nothing_is_left_out():
    names = [frame(1000 * video + step) for video in range(30) for step in (0, 7, 17)]
    for fold in make_folds(names, 5):
        assert outside(names, fold)[1] == []


def test_videos_of_other_names_are_no_neighbours():
    names = [f"set{video}/I{number:03d}.png" for video in range(4) for number in range(5)]
    folds = make_folds(names, 2)
    assert [sorted({name[:4] for name in fold}) for fold in folds] == [["set0", "set2"], ["set1", "set3"]]
    assert all(outside(names, fold)[1] == [] for fold in folds)


def test_the_deal_follows_from_the_names_alone():
    names = sampled(3)
    assert make_folds(random.Random(1).sample(names, len(names)), 10) == make_folds(names, 10)


def test_every_fold_has_frames_of_the_whole_range():
    for fold in make_folds([frame(100 * number) for number in range(200)], 10):
        thirds = [number // 6700 for number in numbers_of(fold)]
        assert min(thirds.count(third) for third in range(3)) >= 4


def test_too_few_blocks():
    with pytest.raises(UserError, match=r"--folds 3: expected at least as many blocks of neighbours, found 2 \(of 2"):
        make_folds(["a1.jpg", "b1.jpg"], 3)
