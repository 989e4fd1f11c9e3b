"""Groups runs by method, over seeds, and compares a run with the runs of other methods in its folder."""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from report.formatting import NONE, counted, number, points
from report.page import Section, Table
from report.run import Run
from utils.errors import UserError

SAME_DATA = ("part", "split", "pairs", "scenes", "protocol")  # fields of results.json that comparable tests share
# The second column of a table of methods, by the metric that chooses an epoch.
SECOND_METRIC = {"AP": "AP50", "accuracy": "F1_macro", "F1_micro": "F1_macro"}
# Options that name places, sources or ways of running; two runs that differ only in these are of one method.
NOT_OF_METHOD = ("seed", "seeds", "save", "data", "checkpointdir", "cache_dir", "search_exp_dir", "eval_exp_dir")
NOT_OF_METHOD += ("results", "partner_exp_dir", "genotype", "random_genotype", "match_parameters", "widen", "config")
NOT_OF_METHOD += ("wandb", "workers", "pin_mem", "device", "no_report", "dry_run", "checkpoint_every")
NOT_OF_METHOD += ("max_bad_files", "robustness")
Groups = dict[str, list[Run]]


def by_method(runs: Iterable[Run]) -> Groups:
    """Return the runs of each method by its label. Of several tests of one training, the last one counts.

    Runs of one label with different options are separate methods. Their labels then name these options.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in {identity(run): run for run in runs}.values():
        groups.setdefault((run.label, json.dumps(method_options(run), sort_keys=True)), []).append(run)
    methods: Groups = {}
    for (label, _), members in groups.items():
        same_label = [method_options(others[0]) for (name, _), others in groups.items() if name == label]
        options = method_options(members[0])
        differing = [n for n in options if len({json.dumps(other.get(n)) for other in same_label}) > 1]
        methods[" ".join([label, *(f"--{name} {options[name]}" for name in differing)])] = members
    return methods


def identity(run: Run) -> tuple[str, ...]:
    """Return what two runs of the same thing share: the folder; for tests the tested run, the partner and the part."""
    if run.kind != "test" or run.trained is None:
        return (str(run.path.resolve()),)
    return str(run.trained.path.resolve()), str(run.results.get("partner_exp_dir")), str(run.results.get("part"))


def method_options(run: Run) -> dict[str, object]:
    """Return the options that decide what a run computes and, for a test, its part of the data."""
    args = (run.trained or run).args
    options = {name: value for name, value in args.items() if name not in NOT_OF_METHOD}
    return options | {"eval_part": run.results.get("part")} if run.kind == "test" else options


def other_methods(run: Run) -> Section:
    """Return the table of all methods that were trained or tested on the same data, in the same folder of runs."""
    title = "Beside other methods"
    folders = sorted(run.path.resolve().parent.glob(f"{run.kind}-*"))
    runs = [other for path in folders if (other := _comparable(run, path))]
    if len({other.label for other in runs}) < 2:
        return Section(title, [])
    caption = f"Runs in {run.path.parent} on the same {run.unit}; this one is {run.label}. "
    caption += "Points of 100, mean ± standard deviation over runs."
    return Section(title, [methods_table(runs, caption)])


def _comparable(run: Run, path: Path) -> Run | None:
    """Return the run of a folder if it is finished and uses the same data, else None. `run` itself is returned."""
    other = Run(path)
    try:
        if other.kind != run.kind or not (other.finished or other.path == run.path.resolve()):
            return None
        # Reads all files that the table needs, since any of them may be damaged.
        other.label, method_options(other), other.seed
        return other if same_data(run, other) and other.value(columns_of(run)[0]) is not None else None
    except UserError:  # another run that is damaged must not prevent this report
        return None


def columns_of(run: Run) -> list[str]:
    """Return the metrics that a table of methods shows."""
    second = SECOND_METRIC.get(run.metric, "F1_micro" if run.metric.startswith("F1_") else None)
    names = [run.metric, second] if second else [run.metric]
    on_val = [f"{name}_val" for name in names]
    return [*names, on_val[0]] if run.kind == "test" else on_val


def same_data(run: Run, other: Run) -> bool:
    """Return whether two runs of one kind use the same data."""
    if _data_of(other) != _data_of(run):
        return False
    if run.kind == "test":
        return all(other.results.get(name) == run.results.get(name) for name in SAME_DATA)
    return other.split == run.split


def _data_of(run: Run) -> tuple[str, object]:
    return str(Path(run.args["data"]).resolve()), run.args.get("dataset")


def methods_table(runs: list[Run], caption: str) -> Table:
    """Return a line per method, the best first: mean and standard deviation over runs, parameters, seeds."""
    kind, groups, columns = runs[0].kind, by_method(runs), columns_of(runs[0])
    size = ["parameters"] if kind == "test" else []
    table = [["method", *(name.replace("_", " ") for name in columns), *size, "seeds", "runs"]]
    for label in sorted(groups, key=lambda m: -statistics.mean(run.value(columns[0]) or 0 for run in groups[m])):
        members = groups[label]
        scores = [mean_deviation([run.value(name) for run in members]) for name in columns]
        sizes = [size for run in members if (size := number(run.results.get("parameters"))) is not None]
        size = [counted(statistics.mean(sizes)) if sizes else NONE] if kind == "test" else []
        seeds = ", ".join(dict.fromkeys(run.seed for run in members))
        table.append([label, *scores, *size, seeds, str(len(members))])
    return Table(table[0], table[1:], caption)


def mean_deviation(values: list[float | None]) -> str:
    """Return mean and standard deviation in points of 100; of a single value the value."""
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return points(values[0] if values else None)
    return f"{points(statistics.mean(values))} ± {points(statistics.stdev(values))}"
