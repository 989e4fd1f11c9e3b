"""Runs of one method together, over seeds; and a run beside the others of its folder that can be compared with it."""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from report.page import Section, Table
from report.run import NONE, Run, counted, number, points
from utils.errors import UserError

SAME = ("part", "split", "pairs", "scenes", "protocol")  # of the results of two tests that can be compared
SECOND = {"AP": "AP50", "accuracy": "F1_macro"}  # what is shown beside the number that chooses an epoch
# Options that say where a run lies, what it comes from, or how it is done: not what.
WITHOUT_MEANING = (
    "seed",
    "seeds",
    "save",
    "data",
    "checkpointdir",
    "cache_dir",
    "search_exp_dir",
    "eval_exp_dir",
    "results",
)
WITHOUT_MEANING += ("partner_exp_dir", "genotype", "random_genotype", "match_parameters", "widen", "config", "wandb")
WITHOUT_MEANING += (
    "workers",
    "pin_mem",
    "device",
    "no_report",
    "dry_run",
    "checkpoint_every",
    "max_bad_files",
    "robustness",
)
Groups = dict[str, list[Run]]


def by_method(runs: Iterable[Run]) -> Groups:
    """Return the runs of each method by its label, each training once: of several tests of one, the last.

    Runs of one label with other options are methods of their own; these options are then part of the label.
    """
    once = {identity(run): run for run in runs}
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in once.values():
        groups.setdefault((run.label, json.dumps(meaning(run), sort_keys=True)), []).append(run)
    labels = [label for label, _ in groups]
    found: Groups = {}
    for (label, _), own in groups.items():
        alike = [meaning(others[0]) for (name, _), others in groups.items() if name == label]
        words = _differing(meaning(own[0]), alike) if labels.count(label) > 1 else []
        found[" ".join([label, *words])] = own
    return found


def identity(run: Run) -> tuple[str, ...]:
    """Return what makes a run more than a repetition: its folder; of a test what was tested, and on what."""
    if run.kind != "test" or run.trained is None:
        return (str(run.path.resolve()),)
    return str(run.trained.path.resolve()), str(run.results.get("partner_exp_dir")), str(run.results.get("part"))


def meaning(run: Run) -> dict[str, object]:
    """Return the options that decide what a run computes, and the part that a test is on."""
    args = (run.trained or run).args
    kept = {name: value for name, value in args.items() if name not in WITHOUT_MEANING}
    return kept | {"eval_part": run.results.get("part")} if run.kind == "test" else kept


def _differing(ours: dict[str, object], all_of: list[dict[str, object]]) -> list[str]:
    names = [n for n in ours if len({json.dumps(one.get(n)) for one in all_of}) > 1]
    return [f"--{name} {ours[name]}" for name in names]


def beside_others(run: Run) -> Section:
    """Return the table of the methods that were trained or tested on the same pairs, in the same folder of runs."""
    folders = sorted(run.path.resolve().parent.glob(f"{run.kind}-*"))
    others = [other for path in folders if (other := _comparable(run, path))]
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
        other.label, meaning(other), other.seed  # whose files may be damaged, too
        return other if alike(run, other) and other.value(columns_of(run)[0]) is not None else None
    except UserError:  # a damaged neighbour is no reason to have no report
        return None


def columns_of(run: Run) -> tuple[str, ...]:
    """Return the numbers of a table of methods."""
    second = SECOND.get(run.metric, "F1_micro" if run.metric != "F1_micro" else "F1_macro")
    if run.kind == "test":
        return run.metric, second, f"{run.metric}_val"
    return f"{run.metric}_val", f"{second}_val"


def alike(run: Run, other: Run) -> bool:
    """Tell whether two runs of a kind are of the same pairs."""
    if data_of(other) != data_of(run):
        return False
    if run.kind == "test":
        return all(other.results.get(name) == run.results.get(name) for name in SAME)
    return other.split == run.split


def data_of(run: Run) -> tuple[str, object]:
    return str(Path(run.args["data"]).resolve()), run.args.get("dataset")


def methods_table(kind: str, runs: Iterable[Run], caption: str) -> Table:
    """Return a line per method, the best first: mean and standard deviation over its runs, parameters, seeds."""
    runs = list(runs)
    groups, columns = by_method(runs), columns_of(runs[0])
    order = sorted(groups, key=lambda label: -statistics.mean(run.value(columns[0]) or 0 for run in groups[label]))
    lines = []
    for label in order:
        own = groups[label]
        numbers = [spread([run.value(name) for run in own]) for name in columns]
        known = [size for run in own if (size := number(run.results.get("parameters"))) is not None]
        sizes = [counted(statistics.mean(known)) if known else NONE] if kind == "test" else []
        seeds = ", ".join(dict.fromkeys(run.seed for run in own))
        lines.append([label, *numbers, *sizes, seeds, str(len(own))])
    sizes = ["parameters"] if kind == "test" else []
    return Table(["method", *(name.replace("_", " ") for name in columns), *sizes, "seeds", "runs"], lines, caption)


def spread(values: list[float | None]) -> str:
    """Return mean and standard deviation in points of 100, the mean alone of one value."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return points(known[0] if known else None)
    return f"{points(statistics.mean(known))} ± {points(statistics.stdev(known))}"
