"""The page that compares runs: methods with mean and deviation over seeds, options that differ, curves."""

from collections.abc import Callable
from pathlib import Path

from report import drawings
from report import sections as s
from report.evaluation_sections import SCENE
from report.formatting import NONE, duration, points
from report.methods import NOT_OF_METHOD, by_method, identity, mean_deviation, methods_table, same_data
from report.metrics import phases
from report.page import Block, Page, Pictures, Section, Table, Words, write_page
from report.run import Run
from utils.coco_eval import AREA_STATS
from utils.errors import UserError

MAX_CURVES = 12
CAUTION = "Caution: these runs are of different data, parts or splits: their numbers differ by more than the method."


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
    rows = [
        [label, *(mean_deviation([run.value(name) for run in members]) for name in names)]
        for label, members in by_method(runs).items()
    ]
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
