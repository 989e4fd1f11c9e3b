"""Computes the results of a fusion study from its rows: methods over seeds, the best ones, paired differences, ranks.

A study has the rows of one dataset, renderer and config. A method has the rows with the config_hash of its last row in
the file. Random genotypes of one space are one method. AP is 0 to 1.
"""

import math
import statistics
from dataclasses import dataclass

from benchmarks.fusion_study.config import KINDS, group_of
from benchmarks.fusion_study.ranking import Paired, kendall, kendall_interval, paired

HAND_MADE = ("handmade", "widened")
Row = dict[str, str]
Key = tuple[str, str, str]  # dataset, hash of the renderer, config


@dataclass(frozen=True)
class Group:
    """The rows of one method."""

    name: str
    kind: str
    rows: tuple[Row, ...]

    @property
    def seeds(self) -> set[int]:
        return {int(row["seed"]) for row in self.rows}

    def values(self, column: str) -> list[float]:
        """Return the numbers of a column, without empty cells."""
        return [float(row[column]) for row in self.rows if row.get(column)]

    def mean(self, column: str) -> float:
        """Return the mean of a column; nan if it is empty."""
        values = self.values(column)
        return statistics.mean(values) if values else math.nan

    def by_seed(self, column: str) -> dict[int, float]:
        """Return the mean per seed."""
        found: dict[int, list[float]] = {}
        for row in self.rows:
            if row.get(column):
                found.setdefault(int(row["seed"]), []).append(float(row[column]))
        return {seed: statistics.mean(values) for seed, values in sorted(found.items())}


def parts(rows: list[Row]) -> dict[Key, list[Row]]:
    """Return the rows of each study, in the order of the file."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault((row["dataset"], row["scenes"], row["config"]), []).append(row)
    return found


def groups(rows: list[Row]) -> list[Group]:
    """Return the methods of one study's rows: by kind, then by AP, the best first."""
    last = {row["method"]: row["config_hash"] for row in rows}
    by_name: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["config_hash"] == last[row["method"]] and row["kind"] in KINDS:
            by_name.setdefault((group_of(row["method"], row["kind"]), row["kind"]), []).append(row)
    found = [Group(name, kind, tuple(members)) for (name, kind), members in by_name.items()]
    return sorted(found, key=lambda g: (KINDS.index(g.kind), -_or_lowest(g.mean("AP")), g.name))


def best(found: list[Group], kinds: tuple[str, ...], column: str) -> Group | None:
    """Return the method of these kinds with the best mean, among those that ran at the most seeds; None without one."""
    candidates = [g for g in found if g.kind in kinds and g.values(column)]
    most = max((len(g.seeds) for g in candidates), default=0)
    return max((g for g in candidates if len(g.seeds) == most), key=lambda g: g.mean(column), default=None)


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def difference(first: Group, second: Group, column: str = "AP") -> Paired | None:
    """Return how far the first is above the second over the seeds of both; None if they share none."""
    a, b = first.by_seed(column), second.by_seed(column)
    shared = [a[seed] - b[seed] for seed in a if seed in b]
    return paired(shared) if shared else None


@dataclass(frozen=True)
class OverRandom:
    """How far a method is above the average random genotype at `seeds`: relative, and in deviations of random ones."""

    seeds: tuple[int, ...]
    mean: float
    random: float
    relative: float
    deviations: float | None


def over_random(group: Group, random: Group) -> OverRandom | None:
    """Compare a method with the average random genotype at the seeds of both; None if they share none.

    The relative improvement of Yang et al., NAS evaluation is frustratingly hard (1912.12522), section 4.
    """
    a, b = group.by_seed("AP"), random.by_seed("AP")
    seeds = tuple(seed for seed in a if seed in b)
    if not seeds or not (average := statistics.mean(b[seed] for seed in seeds)):
        return None
    mean = statistics.mean(a[seed] for seed in seeds)
    drawn = [float(r["AP"]) - b[int(r["seed"])] for r in random.rows if r["AP"] and int(r["seed"]) in seeds]
    freedom = len(drawn) - len(seeds)  # deviations are within a seed, since each seed has different scenes
    deviation = math.sqrt(sum(v * v for v in drawn) / freedom) if freedom > 0 else 0.0
    return OverRandom(seeds, mean, average, mean / average - 1, (mean - average) / deviation if deviation else None)


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b with its 95 % interval; nan if all values of one side are equal."""

    value: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, x: list[float], y: list[float]) -> "Tau":
        return cls(kendall(x, y), kendall_interval(x, y))


@dataclass(frozen=True)
class Ranks:
    """How a supernet's ratings, by kind, agree with AP (mean of both trainings), and both trainings with each other."""

    seed: int
    n: int
    ratings: dict[str, Tau]
    ceiling: Tau


def ranks(rows: list[Row], ratings: list[Row]) -> list[Ranks]:
    """Return the ranks of one study's genotypes, per seed with at least three that were trained twice and rated."""
    found = []
    for seed in sorted({int(row["seed"]) for row in rows}):
        trained = {row["number"]: row for row in _of_seed(rows, seed)}
        kinds = sorted({row["rating"] for row in ratings}, reverse=True)
        scores = {kind: _of_seed([r for r in ratings if r["rating"] == kind], seed) for kind in kinds}
        taus = {}
        for kind, scored in scores.items():
            pairs = [(r, trained[r["number"]]) for r in scored if r["number"] in trained]
            assert all(r["genotype"] == t["genotype"] for r, t in pairs), (
                f"rated another genotype than was trained: {kind}"
            )
            if len(pairs) >= 3:
                aps = [(float(t["AP_1"]) + float(t["AP_2"])) / 2 for _, t in pairs]
                taus[kind] = Tau.of([float(r["score"]) for r, _ in pairs], aps)
        if taus:
            both = ([float(t[name]) for t in trained.values()] for name in ("AP_1", "AP_2"))
            found.append(Ranks(seed, len(trained), taus, Tau.of(*both)))
    return found


def _of_seed(rows: list[Row], seed: int) -> list[Row]:
    """Return the rows of a seed with the config_hash of the last row."""
    return [row for row in rows if int(row["seed"]) == seed and row["config_hash"] == rows[-1]["config_hash"]]


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names on the Pareto front of (cost, AP), the cheapest first."""
    kept = [
        name
        for name, (cost, ap) in points.items()
        if not any(c <= cost and a >= ap and (c, a) != (cost, ap) for c, a in points.values())
    ]
    return sorted(kept, key=lambda name: points[name])
