"""The page that compares runs: methods with mean and spread over seeds, what differs, curves in one picture."""

from pathlib import Path

from utils.plots import phases
from utils.report import drawings
from utils.report import sections as s
from utils.report.others import methods_table, spread
from utils.report.page import Block, Page, Pictures, Section, Table, Words, write_page
from utils.report.run import NONE, Run, duration, points

WITHOUT_MEANING = (
    "seed",
    "save",
    "data",
    "checkpointdir",
    "cache_dir",
    "search_exp_dir",
    "eval_exp_dir",
    "results",
    "wandb",
)
MOST_CURVES = 12


def write_comparison(runs: list[Run], path: Path) -> Path:
    """Write a page that compares runs of one kind; returns where it is."""
    kind = runs[0].kind
    sections = [
        methods(kind, runs),
        by_class(runs),
        by_scene(runs),
        differences(runs),
        curves(kind, runs),
        each(kind, runs),
    ]
    title = f"{len(runs)} runs compared: {', '.join(dict.fromkeys(run.label for run in runs))}"
    return write_page(Page(title, f"{TITLES[kind]} runs", {}, sections), path)


TITLES = {"pretrain": "Pretraining", "search": "Search", "found": "Training", "test": "Test"}


def by_label(runs: list[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    return groups


def methods(kind: str, runs: list[Run]) -> Section:
    """Return mean and spread of each method; runs on other pairs are named, since they cannot be compared."""
    if kind == "pretrain":
        return Section("Methods", [])
    blocks: list[Block] = [methods_table(kind, runs, "Points of 100; mean ± standard deviation over runs")]
    splits = {run.split.hash if run.split else NONE for run in runs}
    if len(splits) > 1:
        told = f"Caution: runs of {len(splits)} splits or data sets, whose numbers differ by more than the method."
        blocks.append(Words(told))
    return Section("Methods", blocks)


def by_class(runs: list[Run]) -> Section:
    """Return AP of each class by method."""
    return _table_of(
        "By class",
        runs,
        "AP_",
        lambda name: not name.startswith(("AP_scene_", "AP_small", "AP_medium", "AP_large", "AP_val")),
    )


def by_scene(runs: list[Run]) -> Section:
    """Return AP of each scene by method, where the data names scenes."""
    return _table_of("By scene", runs, s.SCENE, lambda name: True)


def _table_of(title: str, runs: list[Run], prefix: str, wanted) -> Section:
    names = dict.fromkeys(
        n for run in runs for n in (run.results or run.best or {}) if n.startswith(prefix) and wanted(n)
    )
    if not names:
        return Section(title, [])
    rows = [[label, *(spread([run.value(n) for run in own]) for n in names)] for label, own in by_label(runs).items()]
    return Section(
        title, [Table(["AP", *(n.removeprefix(prefix).removesuffix("_val") for n in names)], rows, "Points of 100")]
    )


def differences(runs: list[Run]) -> Section:
    """Return the options in which the methods differ."""
    first = {label: own[0].args for label, own in by_label(runs).items()}
    names = dict.fromkeys(name for args in first.values() for name in args if name not in WITHOUT_MEANING)
    rows = []
    for name in names:
        values = [str(args.get(name, NONE)) for args in first.values()]
        if len(set(values)) > 1:
            rows.append([f"--{name}", *values])
    return Section("What differs", [Table(["option", *first], rows)] if rows else [])


def curves(kind: str, runs: list[Run]) -> Section:
    """Return loss and AP of all runs in one picture each."""
    rows = {
        label: lines for run in runs[:MOST_CURVES] if run.rows for label, lines in phases(_name(run), run.path).items()
    }
    if not rows:
        return Section("Curves", [])
    best = "; ".join(f"{_name(run)} {points(run.value('AP_val'))}" for run in runs)
    more = [Words(f"The first {MOST_CURVES} of {len(runs)} runs")] if len(runs) > MOST_CURVES else []
    return Section("Curves", [*more, Pictures(drawings.curves(rows, f"best: {best}"))])


def _name(run: Run) -> str:
    return f"{run.label}, seed {run.args.get('seed')}"


def each(kind: str, runs: list[Run]) -> Section:
    """Return every run in a line."""
    rows = []
    for run in runs:
        genotype = run.genotype.id if run.genotype else NONE
        score = run.value("AP") if kind == "test" else run.value("AP_val")
        seed = str(run.results.get("seed", run.args.get("seed")))
        rows.append(
            [
                run.path.name,
                run.label,
                seed,
                points(score),
                genotype,
                duration(run.read("timing.json").get("wall_seconds")),
            ]
        )
    return Section(
        "Every run",
        [Table(["run", "method", "seed", "AP" if kind == "test" else "AP on val", "genotype", "time"], rows)],
    )
