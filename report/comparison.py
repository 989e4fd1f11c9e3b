"""Runs by method, over seeds: the table beside a run, and the page that compares runs.

The page has mean and deviation of each method, options that differ, and curves.
"""

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

from report import drawings
from report import sections as s
from report.evaluation_sections import SCENE
from report.formatting import NONE, counted, duration, number, points
from report.metrics import phases
from report.page import Block, Page, Pictures, Section, Table, Words, write_page
from report.run import Run
from utils.coco_eval import AREA_STATS
from utils.errors import UserError

MAX_CURVES = 12
CAUTION = "Caution: these runs are of different data, parts or splits: their numbers differ by more than the method."
SAME_DATA = ("part", "split", "pairs", "scenes", "protocol")  # fields of results.json that comparable tests share
# The second column of a table of methods, by the metric that chooses an epoch.
SECOND_METRIC = {"AP": "AP50", "accuracy": "F1_macro", "F1_micro": "F1_macro"}
# Options that name places, sources or ways of running; two runs that differ only in these are of one method.
NOT_OF_METHOD = (
    "seed",
    "seeds",
    "fold",
    "save",
    "data",
    "checkpointdir",
    "cache_dir",
    "search_exp_dir",
    "eval_exp_dir",
)
NOT_OF_METHOD += ("results", "partner_exp_dir", "genotype", "random_genotype", "match_parameters", "widen", "config")
NOT_OF_METHOD += ("wandb", "workers", "pin_mem", "device", "no_report", "dry_run", "checkpoint_every")
NOT_OF_METHOD += ("max_bad_files", "robustness")


def by_method(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs of each method by its label. Of several tests of one training, the last one counts.

    Runs of one label with different options are separate methods. Their labels then name these options.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in {identity(run): run for run in runs}.values():
        groups.setdefault((run.label, json.dumps(method_options(run), sort_keys=True)), []).append(run)
    methods: dict[str, list[Run]] = {}
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
    options = {name: value for name, value in (run.trained or run).args.items() if name not in NOT_OF_METHOD}
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
    candidate = Run(path)
    try:
        if candidate.kind != run.kind or not (candidate.finished or candidate.path == run.path.resolve()):
            return None
        # Reads all files that the table needs, since any of them may be damaged.
        candidate.label, method_options(candidate), candidate.seed
        return candidate if same_data(run, candidate) and candidate.value(columns_of(run)[0]) is not None else None
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
    places = {(str(Path(one.args["data"]).resolve()), one.args.get("dataset")) for one in (run, other)}
    if run.kind == "test":
        return len(places) == 1 and all(other.results.get(name) == run.results.get(name) for name in SAME_DATA)
    return len(places) == 1 and other.split == run.split


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


def write_comparison(runs: list[Run], path: Path) -> Path:
    """Write a page that compares runs of one kind; returns its path.

    Raises:
        UserError: the runs are of several tasks.
    """
    if other := next((run for run in runs if run.metric != runs[0].metric), None):
        expected = f"expected runs of one task, as {runs[0].path}, scored by {runs[0].metric}, found {other.metric}"
        raise UserError(f"{other.path}: {expected}")
    runs = list({identity(run): run for run in runs}.values())
    sections = [make(runs) for make in (methods, by_class, by_scene, differences, curves, all_runs)]
    title = f"{len(runs)} runs compared: {', '.join(by_method(runs))}"
    return write_page(Page(title, f"{s.TITLES[runs[0].kind]} runs", {}, sections), path)


def methods(runs: list[Run]) -> Section:
    """Return mean and deviation of each method, with a caution if the runs use different data."""
    if runs[0].kind == "pretrain":
        return Section("Methods", [])
    blocks: list[Block] = [methods_table(runs, "Points of 100; mean ± standard deviation over runs")]
    if not all(same_data(runs[0], run) for run in runs):
        blocks.append(Words(CAUTION))
    return Section("Methods", blocks)


def by_class(runs: list[Run]) -> Section:
    """Return the score of each class by method."""
    prefix = "AP_" if runs[0].metric == "AP" else s.F1_CLASS
    return _table_of("By class", runs, prefix, lambda n: not n.startswith(SCENE) and n not in (*AREA_STATS, "AP_val"))


def by_scene(runs: list[Run]) -> Section:
    """Return AP of each scene by method, if the data names scenes."""
    return _table_of("By scene", runs, SCENE, lambda name: True)


def _table_of(title: str, runs: list[Run], prefix: str, wanted: Callable[[str], bool]) -> Section:
    columns = [name for run in runs for name in (run.results or run.best or {})]
    names = list(dict.fromkeys(name for name in columns if name.startswith(prefix) and wanted(name)))
    if not names:
        return Section(title, [])
    rows = []
    for label, members in by_method(runs).items():
        rows.append([label, *(mean_deviation([run.value(name) for run in members]) for name in names)])
    head = [runs[0].metric, *(name.removeprefix(prefix).removesuffix("_val") for name in names)]
    return Section(title, [Table(head, rows, "Points of 100")])


def differences(runs: list[Run]) -> Section:
    """Return the options in which the methods differ."""
    args = {label: (members[0].trained or members[0]).args for label, members in by_method(runs).items()}
    names = dict.fromkeys(name for options in args.values() for name in options if name not in NOT_OF_METHOD)
    rows = [[f"--{name}", *(str(options.get(name, NONE)) for options in args.values())] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return Section("What differs", [Table(["option", *args], rows)] if rows else [])


def curves(runs: list[Run]) -> Section:
    """Return loss and metric of all runs, one picture each."""
    drawn = [(f"{run.label}, seed {run.seed}", run) for run in runs[:MAX_CURVES] if run.rows]
    rows = {label: lines for name, run in drawn for label, lines in phases(name, run.rows).items()}
    if not rows:
        return Section("Curves", [])
    best = "; ".join(f"{name} {s.best_in_words(run)}" for name, run in drawn)
    note = [Words(f"The first {MAX_CURVES} of {len(runs)} runs")] if len(runs) > MAX_CURVES else []
    return Section("Curves", [*note, Pictures(drawings.curves(rows, best))])


def all_runs(runs: list[Run]) -> Section:
    """Return a line per run."""
    score = runs[0].metric if runs[0].kind == "test" else f"{runs[0].metric} on val"
    rows = []
    for run in runs:
        best = s.best_in_words(run) if run.kind == "pretrain" else points(run.score)
        genotype = run.architecture.id if run.architecture else NONE
        rows.append([run.path.resolve().name, run.label, run.seed, best, genotype, duration(run.seconds)])
    return Section("Every run", [Table(["run", "method", "seed", score, "genotype", "time"], rows)])
