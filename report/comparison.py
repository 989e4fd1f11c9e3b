"""The page that compares runs: methods with mean and spread over seeds, what differs, curves in one picture."""

from collections.abc import Callable
from pathlib import Path

from report import drawings, tested
from report import sections as s
from report.others import WITHOUT_MEANING, alike, by_method, identity, methods_table, spread
from report.page import Block, Page, Pictures, Section, Table, Words, write_page
from report.plots import phases
from report.run import NONE, Run, duration, points
from utils.coco_eval import AREA_STATS
from utils.errors import UserError

MOST_CURVES = 12


def write_comparison(runs: list[Run], path: Path) -> Path:
    """Write a page that compares runs of one kind; returns where it is.

    Raises:
        UserError: the runs are of several tasks.
    """
    if other := next((run for run in runs if run.metric != runs[0].metric), None):
        told = f"expected runs of one task, as {runs[0].path}, scored by {runs[0].metric}, found {other.metric}"
        raise UserError(f"{other.path}: {told}")
    kind, runs = runs[0].kind, list({identity(run): run for run in runs}.values())
    sections = [
        methods(kind, runs),
        by_class(runs),
        by_scene(runs),
        differences(runs),
        curves(runs),
        each(kind, runs),
    ]
    title = f"{len(runs)} runs compared: {', '.join(by_method(runs))}"
    return write_page(Page(title, f"{s.TITLES[kind]} runs", {}, sections), path)


def methods(kind: str, runs: list[Run]) -> Section:
    """Return mean and spread of each method; runs on other pairs are named, since they cannot be compared."""
    if kind == "pretrain":
        return Section("Methods", [])
    blocks: list[Block] = [methods_table(kind, runs, "Points of 100; mean ± standard deviation over runs")]
    if not all(alike(runs[0], run) for run in runs):
        told = (
            "Caution: these runs are of different data, parts or splits: their numbers differ by more than the method."
        )
        blocks.append(Words(told))
    return Section("Methods", blocks)


def by_class(runs: list[Run]) -> Section:
    """Return the score of each class by method."""
    if runs and runs[0].metric != "AP":
        return _table_of("By class", runs, s.F1_CLASS, lambda name: True)
    return _table_of(
        "By class", runs, "AP_", lambda n: not n.startswith(tested.SCENE) and n not in (*AREA_STATS, "AP_val")
    )


def by_scene(runs: list[Run]) -> Section:
    """Return AP of each scene by method, where the data names scenes."""
    return _table_of("By scene", runs, tested.SCENE, lambda name: True)


def _table_of(title: str, runs: list[Run], prefix: str, wanted: Callable[[str], bool]) -> Section:
    known = [name for run in runs for name in (run.results or run.best or {})]
    names = list(dict.fromkeys(name for name in known if name.startswith(prefix) and wanted(name)))
    if not names:
        return Section(title, [])
    rows = [[label, *(spread([run.value(n) for run in own]) for n in names)] for label, own in by_method(runs).items()]
    head = [runs[0].metric, *(name.removeprefix(prefix).removesuffix("_val") for name in names)]
    return Section(title, [Table(head, rows, "Points of 100")])


def differences(runs: list[Run]) -> Section:
    """Return the options in which the methods differ."""
    first = {label: (own[0].trained or own[0]).args for label, own in by_method(runs).items()}
    names = dict.fromkeys(name for args in first.values() for name in args if name not in WITHOUT_MEANING)
    rows = []
    for name in names:
        values = [str(args.get(name, NONE)) for args in first.values()]
        if len(set(values)) > 1:
            rows.append([f"--{name}", *values])
    return Section("What differs", [Table(["option", *first], rows)] if rows else [])


def curves(runs: list[Run]) -> Section:
    """Return loss and AP of all runs in one picture each."""
    drawn = [(_name(run), run) for run in runs[:MOST_CURVES] if run.rows]
    rows = {label: lines for name, run in drawn for label, lines in phases(name, run.path).items()}
    if not rows:
        return Section("Curves", [])
    best = "; ".join(f"{name} {s.best_in_words(run)}" for name, run in drawn)
    more = [Words(f"The first {MOST_CURVES} of {len(runs)} runs")] if len(runs) > MOST_CURVES else []
    return Section("Curves", [*more, Pictures(drawings.curves(rows, best))])


def _name(run: Run) -> str:
    return f"{run.label}, seed {run.seed}"


def each(kind: str, runs: list[Run]) -> Section:
    """Return every run in a line."""
    rows = []
    for run in runs:
        score = s.best_in_words(run) if kind == "pretrain" else points(run.score)
        genotype = run.genotype.id if run.genotype else NONE
        rows.append([run.path.resolve().name, run.label, run.seed, score, genotype, duration(run.seconds)])
    metric = runs[0].metric if runs else "AP"
    score = metric if kind == "test" else f"{metric} on val"
    return Section("Every run", [Table(["run", "method", "seed", score, "genotype", "time"], rows)])
