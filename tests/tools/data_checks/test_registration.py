"""How far RGB lies from thermal: planted shifts, on drawn pairs and on real ones."""

import os
from pathlib import Path

import numpy as np
import pytest

from datasets.detection.opening import open_data_set
from datasets.images import read_rgb, read_thermal
from tools.data_checks.registration import NUM_GROUPS, REACH, Registration, correlate, working_factor

SIDE = 160
SHIFTS = [(0, 0), (12, -7), (-9, 3)]


def draw_pair(seed: int, shift: tuple[int, int] = (0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """Draw rectangles of other brightness in each modality, on noise, RGB moved by (dx, dy)."""
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 30, (2, SIDE, SIDE)).astype(np.float32)
    for x, y, width, height in draws.integers(10, 60, (12, 4)) * (2, 2, 1, 1):
        for image, (dx, dy) in zip(images, (shift, (0, 0))):
            image[y + dy : y + dy + height, x + dx : x + dx + width] = draws.integers(30, 255)
    rgb, thermal = images.astype(np.uint8)
    return np.stack([rgb] * 3), thermal[None]


def registered(pairs: list[tuple[np.ndarray, np.ndarray]], factor: int = 1) -> Registration:
    registration = Registration(factor)
    for rgb, thermal in pairs:
        registration.add(correlate(rgb, thermal, factor))
    return registration


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_planted_shift_is_found(shift):
    registration = registered([draw_pair(seed, shift) for seed in range(12)])
    found = registration.shift()
    assert (found.dx, found.dy) == shift
    assert found.pairs == 12
    assert found.reliable
    assert registration.elsewhere() == {}


def test_shrunk_images_give_the_shift_in_their_own_pixels():
    pairs = [draw_pair(seed, (12, -6)) for seed in range(NUM_GROUPS)]
    large = [tuple(image.repeat(2, axis=1).repeat(2, axis=2) for image in pair) for pair in pairs]
    found = registered(large, factor=2).shift()
    assert (found.dx, found.dy) == (24, -12)
    assert [working_factor(sides) for sides in ([], [80], [640], [1280, 1280, 500])] == [1, 1, 1, 2]


def test_the_score_is_the_correlation_of_the_edges_at_that_shift():
    scores = correlate(*draw_pair(0, (5, 2)))
    assert scores.shape == (2 * REACH + 1, 2 * REACH + 1)
    assert np.unravel_index(scores.argmax(), scores.shape) == (REACH + 2, REACH + 5)
    reach = (SIDE - 2) // 4
    inside = scores[REACH - reach : REACH + reach + 1, REACH - reach : REACH + reach + 1]
    assert inside.mean() == pytest.approx(0, abs=1e-4)
    assert inside.std() == pytest.approx(1, abs=1e-4)
    assert np.count_nonzero(scores) <= inside.size


def test_one_pair_that_lies_elsewhere_is_named():
    pairs = [draw_pair(seed) for seed in range(12)]
    pairs[7] = draw_pair(7, (30, -12))
    assert registered(pairs).elsewhere() == {7: (30, -12)}


def test_pairs_that_show_different_things_have_no_shift():
    registration = registered([(draw_pair(seed)[0], draw_pair(seed + 50)[1]) for seed in range(20)])
    assert not registration.shift().reliable
    assert registration.elsewhere() == {}
    assert Registration(1).shift() is None


def test_images_without_edges_or_too_small_are_not_compared():
    rgb, thermal = draw_pair(0)
    assert correlate(np.full_like(rgb, 9), thermal) is None
    assert correlate(rgb[:, :5, :5], thermal[:, :5, :5]) is None
    assert correlate(rgb[:, :1, :1], thermal[:, :1, :1]) is None


@pytest.fixture(scope="module")
def real_pairs():
    """(RGB, thermal) of every third real pair: fifty, and quick."""
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with flir_aligned_mini")
    data = open_data_set(Path(os.environ["NAS_DSF_DATA"]) / "flir_aligned_mini")
    records = [record for mine in data.records.values() for record in mine][::3]
    return [(read_rgb(r.paths["rgb"]).numpy(), read_thermal(r.paths["thermal"]).numpy()) for r in records]


def test_a_shift_planted_into_real_pairs_is_found(real_pairs):
    registration = registered(real_pairs)
    assert registration.elsewhere() == {}
    before = registration.shift()
    after = registered([(np.roll(rgb, (-7, 12), (1, 2)), thermal) for rgb, thermal in real_pairs]).shift()
    assert before.reliable
    assert after.reliable
    assert abs(after.dx - before.dx - 12) <= 2
    assert abs(after.dy - before.dy + 7) <= 2
