"""Kendall's tau-b against a loop over pairs, p values against known quantiles of Student's t."""

import math
from itertools import combinations

import numpy as np
import pytest

from benchmarks.fusion_study.ranking import kendall, kendall_interval, p_value, paired


def tau_by_pairs(x: list[float], y: list[float]) -> float:
    """(concordant - discordant) / sqrt(pairs untied in x * pairs untied in y)."""
    balance = untied_x = untied_y = 0
    for i, j in combinations(range(len(x)), 2):
        a, b = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
        balance, untied_x, untied_y = balance + a * b, untied_x + abs(a), untied_y + abs(b)
    return balance / math.sqrt(untied_x * untied_y)


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_that_of_a_loop_over_pairs_with_ties(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 12).tolist(), rng.integers(0, 6, 12).tolist()
    assert kendall(x, y) == pytest.approx(tau_by_pairs(x, y))


def test_order_alone_counts():
    assert kendall([1, 2, 3, 4], [1, 10, 11, 500]) == 1
    assert kendall([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))


def test_the_interval_is_that_of_resampled_pairs():
    rng = np.random.default_rng(3)
    x = rng.normal(size=20)
    y = x + rng.normal(size=20)
    low, high = kendall_interval(x, y)
    assert (low, high) == kendall_interval(x, y)
    draws = [rng.integers(0, 20, 20) for _ in range(400)]
    taus = np.array([tau_by_pairs(x[d].tolist(), y[d].tolist()) for d in draws])
    assert low == pytest.approx(np.percentile(taus, 2.5), abs=0.06)
    assert high == pytest.approx(np.percentile(taus, 97.5), abs=0.06)
    assert kendall_interval([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == (1, 1)


# Two-sided critical values as in every table of Student's t.
QUANTILES = [(12.706205, 1, 0.05), (4.302653, 2, 0.05), (2.776445, 4, 0.05), (4.604095, 4, 0.01), (2.042272, 30, 0.05)]


@pytest.mark.parametrize(("t", "freedom", "p"), QUANTILES)
def test_p_is_that_of_the_tables(t, freedom, p):
    assert p_value(t, freedom) == pytest.approx(p, abs=1e-6)
    assert p_value(-t, freedom) == p_value(t, freedom)


def test_p_at_the_ends():
    assert p_value(0, 3) == 1
    assert 0 <= p_value(1e6, 4) < 1e-9


def test_a_paired_difference():
    told = paired([0.01, 0.02, 0.03])
    assert (told.n, told.mean, told.deviation) == (3, pytest.approx(0.02), pytest.approx(0.01))
    assert told.t == pytest.approx(0.02 / (0.01 / math.sqrt(3)))
    assert told.p == pytest.approx(0.0741799, abs=1e-6)  # 1 - t / sqrt(t^2 + 2), in closed form at two degrees
    assert told.p == pytest.approx(1 - told.t / math.sqrt(told.t**2 + 2), abs=1e-9)
    assert paired([0.5]).p is None
    assert paired([0.25, 0.25]).t is None
