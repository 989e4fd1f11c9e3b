"""Statistics of a study with numpy: Kendall's tau-b with a bootstrap interval, and Student's paired t test.

tau-b: Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945). Letters: N values, R resamples.
"""

import math
import statistics
from dataclasses import dataclass

import numpy as np

RESAMPLES, SEED, POINTS = 10_000, 0, 20_001


def kendall(x: list[float], y: list[float]) -> float:
    """Return tau-b of N paired values, -1 to 1; nan if all values of one side are equal."""
    return float(_taus(np.asarray(x), np.asarray(y), np.arange(len(x))[None])[0])


def kendall_interval(x: list[float], y: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of tau-b over resamples of the N pairs with a fixed seed; nan if tau-b is nan."""
    if math.isnan(kendall(x, y)):
        return math.nan, math.nan
    draws = np.random.default_rng(SEED).integers(0, len(x), (RESAMPLES, len(x)))
    taus = np.concatenate([_taus(np.asarray(x), np.asarray(y), part) for part in np.array_split(draws, 20)])
    low, high = np.nanpercentile(taus, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def _taus(x: np.ndarray, y: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return tau-b for each row of indices (R, N)."""
    a, b = (np.sign(v[draws][:, :, None] - v[draws][:, None, :]) for v in (x, y))  # (R, N, N)
    ties = np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)))
    return np.divide((a * b).sum((1, 2)), ties, out=np.full(len(draws), np.nan), where=ties > 0)


@dataclass(frozen=True)
class Paired:
    """A paired difference over `n` seeds: mean, deviation, t and two-sided p; None if n is 1 or nothing varies."""

    n: int
    mean: float
    deviation: float | None
    t: float | None
    p: float | None


def paired(differences: list[float]) -> Paired:
    """Return mean and t test of differences, at least one."""
    n, mean = len(differences), statistics.mean(differences)
    if n == 1:
        return Paired(n, mean, None, None, None)
    deviation = statistics.stdev(differences)
    if deviation == 0:
        return Paired(n, mean, deviation, None, None)
    t = mean / (deviation / math.sqrt(n))
    return Paired(n, mean, deviation, t, p_value(t, n - 1))


def p_value(t: float, freedom: int) -> float:
    """Return the two-sided p of Student's t, by integrating the density over t = sqrt(freedom) tan(angle)."""
    angles = np.linspace(0, math.atan(abs(t) / math.sqrt(freedom)), POINTS)
    heights = np.cos(angles) ** (freedom - 1)
    area = float((heights[1:] + heights[:-1]).sum() / 2 * angles[1])
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return max(1 - 2 * scale * area, 0.0)
