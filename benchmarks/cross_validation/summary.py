"""The numbers of a cross-validation: each method over the folds, and paired with the better single sensor. AP is 0..1.

Folds share most of their training pairs, so they are not independent, and Student's interval over them is too narrow
rather than too wide (Bengio and Grandvalet, No unbiased estimator of the variance of K-fold cross-validation, 2004).
The bootstrap over blocks of frames says how much the score depends on which pairs were tested on, not on training.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cross_validation.pooled import RESAMPLES, Truth, interval
from benchmarks.cross_validation.study import FOLD, METHODS
from tools.demo.tasks import SINGLE

KEY = ("dataset", "config", "config_hash", "folds", "seed")
Row = dict[str, str]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Mean:
    """Mean, standard deviation and 95 % interval of Student's t over `count` values; None where there is one value."""

    count: int
    mean: float
    deviation: float | None
    interval: Interval | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        count, mean = len(values), statistics.mean(values)
        if count == 1:
            return cls(1, mean, None, None)
        from scipy.special import stdtrit  # scikit-learn needs scipy as well

        deviation = statistics.stdev(values)
        half = float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)
        return cls(count, mean, deviation, (mean - half, mean + half))


@dataclass(frozen=True)
class Method:
    """One method: its scores by fold and test set, and AP over the pairs of all folds, with what the bootstrap drew."""

    name: str
    scores: dict[str, dict[str, dict[int, float]]]  # by test set and column, of each fold
    pooled: float | None = None
    drawn: np.ndarray | None = None

    def over_folds(self, column: str, test_set: str = FOLD) -> Mean | None:
        values = list(self.scores.get(test_set, {}).get(column, {}).values())
        return Mean.of(values) if values else None

    def minus(self, other: "Method", column: str = "AP", test_set: str = FOLD) -> Mean | None:
        """Return the difference over the folds that both have."""
        mine, theirs = (method.scores.get(test_set, {}).get(column, {}) for method in (self, other))
        shared = [mine[fold] - theirs[fold] for fold in mine if fold in theirs]
        return Mean.of(shared) if shared else None

    def pooled_minus(self, other: "Method") -> tuple[float, Interval] | None:
        """Return the difference of pooled AP, and its bootstrap interval."""
        if self.pooled is None or other.pooled is None:
            return None
        return self.pooled - other.pooled, interval(self.drawn - other.drawn)


@dataclass(frozen=True)
class Summary:
    """A study: its key columns, its methods, and the better single sensor by mean AP_val, which no test pair is in."""

    key: dict[str, str]
    methods: list[Method]
    test_sets: list[str]

    @property
    def sensor(self) -> Method | None:
        sensors = [(mean.mean, m) for m in self.methods if m.name in SINGLE and (mean := m.over_folds("AP_val"))]
        return max(sensors, key=lambda pair: pair[0])[1] if sensors else None


def studies(rows: list[Row]) -> list[list[Row]]:
    """Return the rows of each study, in the order of the file."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in KEY), []).append(row)
    return list(found.values())


def summarize(rows: list[Row], out: Path | None, resamples: int = RESAMPLES) -> Summary:
    """Return the numbers of one study's rows; `out` has the detections of all folds, None: no pooled AP."""
    key = {name: rows[0][name] for name in KEY}
    truth = Truth.read(out, int(key["folds"])) if out else None
    draws = truth.resamples(resamples) if truth else None
    names = [name for name in METHODS if any(row["method"] == name for row in rows)]
    methods = []
    for name in names:
        pooled = truth.pool(out, name) if truth else None
        drawn = np.array([pooled.score(weights) for weights in draws]) if pooled else None
        whole = pooled.score(np.ones(draws.shape[1])) if pooled else None
        methods.append(Method(name, scores_of(rows, name), whole, drawn))
    return Summary(key, methods, list(dict.fromkeys(row["test_set"] for row in rows)))


def scores_of(rows: list[Row], method: str) -> dict[str, dict[str, dict[int, float]]]:
    """Return the numbers of a method by test set, column and fold; empty cells are left out."""
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for row in (row for row in rows if row["method"] == method):
        columns = scores.setdefault(row["test_set"], {})
        for name, value in row.items():
            if name.startswith("AP") and value:
                columns.setdefault(name, {})[int(row["fold"])] = float(value)
    return scores
