"""The tables of a cross-validation as Markdown, for docs/results.md. AP is in points of 100."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.cross_validation.study import FOLD, NAME, Study
from benchmarks.cross_validation.summary import Interval, Mean, Row, Summary, studies, summarize
from utils.run_folder import RUNS

BY_CLASS = ("AP_person", "AP_bike", "AP_car")


def report(rows: list[Row], study: Study | None = None) -> str:
    """Return the tables of one study, or of all that have rows."""
    parts = [part for part in studies(rows) if study is None or is_of(part[0], study)]
    return "\n".join(line for part in parts for line in tables(part, study.out if study else folder_of(part[0])))


def is_of(row: Row, study: Study) -> bool:
    return all(row[name] == str(value) for name, value in study.key.items())


def folder_of(row: Row) -> Path:
    return Path(RUNS) / f"{NAME}-{row['config']}"


def tables(rows: list[Row], out: Path) -> list[str]:
    summary = summarize(rows, out)
    key, commits = summary.key, ", ".join(dict.fromkeys(row["commit"] for row in rows))
    title = f"## {key['dataset']}: {key['config']}, {key['folds']} folds"
    facts = f"Seed {key['seed']}. Commit {commits}. Device {', '.join(dict.fromkeys(row['device'] for row in rows))}."
    lines = [title, "", facts, "", *over_folds(summary), "", *paired(summary), ""]
    return lines + [line for name in summary.test_sets if name != FOLD for line in further(summary, name)]


def over_folds(summary: Summary) -> list[str]:
    """Return the table of all methods over the folds."""
    columns = ("AP_val", "AP", "95 % interval", "AP50", *BY_CLASS, "AP of all pairs", "folds")
    rows = []
    for method in summary.methods:
        mean = method.over_folds("AP")
        values = [
            _spread(method.over_folds("AP_val")),
            _spread(mean),
            _interval(mean, _points),
            _spread(method.over_folds("AP50")),
        ]
        values += [_mean(method.over_folds(name)) for name in BY_CLASS] + [_points(method.pooled), str(mean.count)]
        rows.append((method.name, values))
    text = (
        "Mean ± standard deviation over folds, with Student's interval. AP of all pairs: the detections of all folds "
    )
    return [*_table(("method", *columns), rows), "", text + "scored at once."]


def paired(summary: Summary) -> list[str]:
    """Return the differences of each method to the better single sensor."""
    sensor = summary.sensor
    if sensor is None:
        return []
    rows = []
    for method in (m for m in summary.methods if m is not sensor):
        difference, of_pool = method.minus(sensor), method.pooled_minus(sensor)
        values = [_signed(difference and difference.mean), _interval(difference)]
        values += [_signed(of_pool and of_pool[0]), _range(of_pool and of_pool[1])]
        rows.append((method.name, values))
    columns = ("AP over folds", "95 % interval", "AP of all pairs", "95 % bootstrap interval")
    text = (
        f"Difference to {sensor.name}, the single sensor with the higher mean AP_val, in the same folds. The bootstrap "
    )
    return [*_table((f"minus {sensor.name}", *columns), rows), "", text + "draws blocks of neighbouring frames."]


def further(summary: Summary, test_set: str) -> list[str]:
    """Return the table of a further set, on which the networks of all folds are tested."""
    methods = [m for m in summary.methods if m.over_folds("AP", test_set)]
    rows = []
    for method in methods:
        means = [method.over_folds(column, test_set) for column in ("AP", "AP50", *BY_CLASS)]
        difference = method.minus(summary.sensor, "AP", test_set) if summary.sensor else None
        rows.append(
            (method.name, [_spread(m) for m in means[:2]] + [_mean(m) for m in means[2:]] + [_signed_mean(difference)])
        )
    sensor = summary.sensor.name if summary.sensor else "-"
    title = f"{test_set}: the networks of all folds on its test list. Classes that it does not label do not count."
    return [title, "", *_table(("method", "AP", "AP50", *BY_CLASS, f"minus {sensor}"), rows), ""]


def _table(columns: tuple[str, ...], rows: list[tuple[str, list[str]]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return lines + [f"| {name} | {' | '.join(values)} |" for name, values in rows]


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _mean(mean: Mean | None) -> str:
    return _points(mean and mean.mean)


def _spread(mean: Mean | None) -> str:
    return _mean(mean) if mean is None or mean.deviation is None else f"{_mean(mean)} ± {_points(mean.deviation)}"


def _signed_mean(mean: Mean | None) -> str:
    return "-" if mean is None else f"{_signed(mean.mean)} {_interval(mean)}"


def _interval(mean: Mean | None, write: Callable[[float], str] = _signed) -> str:
    return _range(mean and mean.interval, write)


def _range(interval: Interval | None, write: Callable[[float], str] = _signed) -> str:
    return "-" if interval is None else f"[{write(interval[0])}, {write(interval[1])}]"
