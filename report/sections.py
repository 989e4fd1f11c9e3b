"""Sections of every run: what was run, curves, scores and cost; one without anything to show has no blocks."""

from typing import Any

from datasets.splits import DEV, OVERFIT, PAPER
from report import drawings
from report.page import Block, Facts, Pictures, Section, Table, Words
from report.plots import phases
from report.run import NONE, Run, counted, duration, number, points
from report.searched import searcher_of
from utils.run_folder import COMMAND

TITLES = {"pretrain": "Pretraining", "search": "Search", "found": "Training", "test": "Test"}
WEIGHTS_LEARN = "Weights learn on train and arch; the epoch is chosen on val."
LOGITS_LEARN = "Weights learn on train, logits on arch; the epoch is chosen on val."
UNREAD = " The test {} are not read."


def what_was_run(run: Run) -> Section:
    """Return command, data and split, code and machine."""
    split, known = run.split, run.environment
    sizes = {name: len(names) for name, names in split.parts.items()} if split else {}
    if run.kind == "test":
        told = f"Tested on {counted(run.results.get('pairs'))} {run.unit} of {run.results.get('part')}."
    else:
        told = LOGITS_LEARN if run.kind == "search" and searcher_of(run) == "gradient" else WEIGHTS_LEARN
        told += UNREAD.format(run.unit) if split and split.protocol != PAPER else ""
    if split and split.protocol == OVERFIT:
        told += f" Overfitting, a check of the whole job: learned and chosen on the same {sizes['train']} pairs."
    if split and split.protocol == DEV:
        told += " Published protocol: the whole dev list serves as arch and val."
    if split and split.protocol == PAPER:
        told += (
            " Published protocol: the test pairs serve as arch and val, so the numbers are those of a choice on them."
        )
    facts = {
        "run folder": str(run.path),
        "command": known.get("command", NONE),
        "data": f"{run.args.get('data')} ({run.args.get('dataset')})",
        run.unit: ", ".join(f"{name} {counted(size)}" for name, size in sizes.items()),
        "split": f"{split.hash}, protocol {split.protocol}, seed {split.seed}" if split else NONE,
        "seed": run.seed,
        "commit": known.get("commit", NONE),
        "machine": f"{known.get('processor', NONE)}; GPUs: {known.get('gpus', NONE)}; torch {known.get('torch', NONE)}",
    }
    if run.fused:
        both = f"{run.results.get('eval_exp_dir')} and {run.results.get('partner_exp_dir')}"
        facts |= {"boxes of": f"{run.results['fused']}: {both}"}
    return Section("What was run", [Words(told), Facts(facts), _options(run)])


def _options(run: Run) -> Facts:
    """Return all options, folded; those that are not at their default first."""
    defaults = run.read(COMMAND).get("defaults", {})
    shown = {name: value for name, value in run.args.items() if name != "data"}
    ours = {
        name: f"{value} (default {_plain(defaults[name])})"
        for name, value in shown.items()
        if name in defaults and _plain(value) != _plain(defaults[name])
    }
    rest = {name: f"{_plain(value)}" for name, value in shown.items() if name not in ours}
    return Facts(ours | rest, "All options; those with another value than the default first")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def curves(run: Run) -> Section:
    """Return loss, AP and, of searches, entropy and operation counts over epochs."""
    if not run.rows:
        return Section("Curves", [])
    pictures = drawings.curves(phases("", run.path), best_in_words(run))
    counts = [name for name in run.rows[-1] if name.startswith("count_")]
    rows = [row for row in run.rows if "phase" not in row]
    if counts and rows:
        series = {n.removeprefix("count_"): [(row["epoch"], row.get(n, 0)) for row in rows] for n in counts}
        series = {name: values for name, values in series.items() if any(count for _, count in values)}
        last = ", ".join(f"{name} {values[-1][1]}" for name, values in series.items())
        pictures.append(
            drawings.lines("operations of the genotype", series, f"Operation counts over the epochs; at the end {last}")
        )
    if any(number(row.get("eigenvalue")) is not None for row in rows):
        values = [(row["epoch"], row["eigenvalue"]) for row in rows if number(row.get("eigenvalue")) is not None]
        alt = f"Dominant eigenvalue of the logits' Hessian over the epochs, at the end {values[-1][1]:.3g}"
        pictures.append(drawings.lines("dominant eigenvalue", {"eigenvalue": values}, alt))
    return Section("Curves", [Pictures(pictures)])


def best_by_phase(run: Run) -> dict[str, float]:
    """Return the best score on val of each phase."""
    best: dict[str, float] = {}
    for row in run.rows:
        phase = str(row.get("phase", ""))
        best[phase] = max(best.get(phase, 0), number(row.get(f"{run.metric}_val"), 0))
    return best


def best_in_words(run: Run) -> str:
    return "best " + ", ".join(f"{phase} {points(value)}".lstrip() for phase, value in best_by_phase(run).items())


F1_CLASS = "F1_class_"


def class_scores(run: Run) -> Section:
    """Return the scores of a classifier: of a test its own, by class as well, else those of the best epoch."""
    row, suffix = (run.results, "") if run.kind == "test" else (run.best or {}, "_val")
    names = [n for n in row if n.startswith(("F1_", "accuracy")) and n.endswith(suffix) and not n.startswith(F1_CLASS)]
    names = [n for n in names if suffix or not n.endswith("_val")]
    facts = Facts({n.removesuffix("_val").replace("_", ", "): points(run.value(n)) for n in names})
    rows = [[n.removeprefix(F1_CLASS), points(run.value(n))] for n in row if n.startswith(F1_CLASS)]
    table = [Table(["class", "F1"], rows, "points of 100")] if rows else []
    return Section("Scores", [facts, *table] if names else [])


def scores(run: Run) -> Section:
    """Return AP, by class and by size: of a test its own, else those of the epoch that counts, on val."""
    if run.metric != "AP":
        return class_scores(run)
    names = list(
        dict.fromkeys(
            n.removesuffix("_val").partition("_")[2] for n in (run.results or run.best or {}) if n.startswith("AP50_")
        )
    )
    suffix = "" if run.kind == "test" else "_val"
    classes = [name for name in names if name and not name.startswith("scene_") and name != "val"]
    columns = ["AP", "AP50", "LAMR"]
    rows = [["all classes", points(run.value(f"AP{suffix}")), points(run.value(f"AP50{suffix}")), NONE]]
    rows += [[name, *(points(run.value(f"{c}_{name}{suffix}")) for c in columns)] for name in classes]
    if all(row[-1] == NONE for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    where = f"{run.results.get('part')} pairs" if run.kind == "test" else f"val, epoch {(run.best or {}).get('epoch')}"
    told = (
        f"{where}; points of 100. LAMR: log-average miss rate, lower is better."
        if len(columns) > 2
        else f"{where}; points of 100"
    )
    blocks: list[Block] = [Table(["class", *columns], rows, told)]
    sizes = {
        "AP75": "AP75",
        "AP_small": "small objects",
        "AP_medium": "medium",
        "AP_large": "large",
        "AR100": "AR, 100 boxes",
    }
    more = {
        words: points(run.value(f"{name}{suffix}"))
        for name, words in sizes.items()
        if run.value(f"{name}{suffix}") is not None
    }
    return Section("Scores", [*blocks, Facts(more)] if run.value(f"AP{suffix}") is not None else [])


def cost(run: Run) -> Section:
    """Return what it took: time, speed, memory, pairs met; of a test what runs."""
    timing, first = run.read("timing.json"), {"test": "clean test", "search": "search"}.get(run.kind, "training")
    own = {
        n.removesuffix("wall_seconds").strip("_"): value for n, value in timing.items() if n.endswith("wall_seconds")
    }
    facts = {f"time, {name or first}": duration(value) for name, value in own.items()}
    facts |= {"time in all": duration(run.seconds)} if len(facts) > 1 else {}
    memory = max((number(row.get("memory_mb"), 0) for row in run.rows), default=0)
    speed = [row["pairs_per_s"] for row in run.rows if number(row.get("pairs_per_s")) is not None]
    facts |= {f"{run.unit} per second in training": f"{sum(speed) / len(speed):.1f}"} if speed else {}
    facts |= {"memory at most": f"{memory:,.0f} MiB"} if memory else {}
    passes = sum(number(row.get("pairs"), 0) for row in run.rows)
    facts |= {f"passes of {run.unit}": counted(passes)} if passes else {}
    skipped = sum({str(row.get("phase")): number(row.get("bad_steps"), 0) for row in run.rows}.values())
    facts |= {"steps skipped": counted(skipped)} if skipped else {}
    names = {
        "parameters": "parameters that run",
        "parameters_fusion": "parameters of the fusion",
        "macs": "multiply-accumulates per pair",
    }
    facts |= {words: counted(run.results.get(name)) for name, words in names.items() if name in run.results}
    facts |= _operation_costs(run)
    return Section("Cost", [Facts(facts)] if facts else [])


def _operation_costs(run: Run) -> dict[str, str]:
    what = run.read("costs.json").get("cost")
    return (
        {"cost in the search's objective": f"{what}, weight {run.args.get('lambda_cost')} (costs.json)"} if what else {}
    )
