"""A run beside the other runs of its folder that can be compared with it, and runs of one method over seeds."""

import statistics
from collections.abc import Iterable
from pathlib import Path

from utils.errors import UserError
from utils.report.page import Section, Table
from utils.report.run import NONE, Run, counted, points

SAME = ("part", "split", "pairs", "scenes", "protocol")  # of the results of two tests that can be compared
COLUMNS = {"test": ("AP", "AP50", "AP_val"), "found": ("AP_val", "AP50_val"), "search": ("AP_val", "AP50_val")}


def beside_others(run: Run) -> Section:
    """Return the table of the methods that were trained or tested on the same split, in the same folder of runs."""
    others = [
        other for path in sorted(run.path.resolve().parent.glob(f"{run.kind}-*")) if (other := _comparable(run, path))
    ]
    if len({other.label for other in others}) < 2:
        return Section("Beside other methods", [])
    told = f"Runs in {run.path.parent} on the same pairs; this one is {run.label}. "
    told += "Points of 100, mean ± standard deviation over runs."
    return Section("Beside other methods", [methods_table(run.kind, others, told)])


def _comparable(run: Run, path: Path) -> Run | None:
    """Return another run that is finished and of the same pairs; the run itself is."""
    other = Run(path)
    try:
        if other.kind != run.kind or not (other.finished or other.path == run.path.resolve()):
            return None
        if _data(other) != _data(run):
            return None
        if run.kind == "test":
            same = all(other.results.get(name) == run.results.get(name) for name in SAME)
        else:
            same = other.split == run.split
        return other if same and other.value(COLUMNS[run.kind][0]) is not None else None
    except UserError:  # a damaged neighbour is no reason to have no report
        return None


def _data(run: Run) -> tuple[str, object]:
    return str(Path(str(run.args.get("data"))).resolve()), run.args.get("dataset")


def methods_table(kind: str, runs: Iterable[Run], caption: str) -> Table:
    """Return a line per method, the best first: mean and standard deviation over its runs, parameters, seeds."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    columns = COLUMNS[kind]
    order = sorted(groups, key=lambda label: -statistics.mean(run.value(columns[0]) or 0 for run in groups[label]))
    lines = []
    for label in order:
        own = groups[label]
        numbers = [spread([run.value(name) for run in own]) for name in columns]
        sizes = [run.results["parameters"] for run in own if "parameters" in run.results]
        sizes = [counted(statistics.mean(sizes)) if sizes else NONE] if kind == "test" else []
        seeds = ", ".join(dict.fromkeys(str(run.results.get("seed", run.args.get("seed"))) for run in own))
        lines.append([label, *numbers, *sizes, seeds, str(len(own))])
    head = [
        "method",
        *(name.replace("_", " ") for name in columns),
        *(["parameters"] if kind == "test" else []),
        "seeds",
        "runs",
    ]
    return Table(head, lines, caption)


def spread(values: list[float | None]) -> str:
    """Return mean and standard deviation in points of 100, the mean alone of one value."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return points(known[0] if known else None)
    return f"{points(statistics.mean(known))} ± {points(statistics.stdev(known))}"
