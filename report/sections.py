"""Sections of every run: what was run, curves, scores and cost. A section with nothing to show has no blocks."""

from typing import Any

from datasets.splits import ALL, DEV, OVERFIT, PAPER
from report import drawings
from report.formatting import NONE, counted, duration, number, points
from report.metrics import phases
from report.page import Block, Facts, Pictures, Section, Table, Words
from report.run import Run
from report.search_sections import searcher_of

TITLES = {"pretrain": "Pretraining", "search": "Search", "found": "Training", "test": "Test"}
WEIGHTS_LEARN = "Weights learn on train and arch; the epoch is chosen on val."
LOGITS_LEARN = "Weights learn on train, logits on arch; the epoch is chosen on val."
NOTHING_LEARNS = "Nothing is trained; the network is scored on val."
UNREAD = " The test {} are not read."
PROTOCOLS = {
    OVERFIT: " Overfitting, a check of the whole job: learned and chosen on the same {} pairs.",
    DEV: " Published protocol: the whole dev list serves as arch and val.",
    ALL: " Published protocol: weights and logits learn on the training and test lists together.",
    PAPER: " Published protocol: the test pairs serve as arch and val, so the numbers are those of a choice on them.",
}
F1_CLASS = "F1_class_"
SIZES = {"AP75": "AP75", "AP_small": "small objects", "AP_medium": "medium", "AP_large": "large"}
SIZES |= {"AR100": "AR, 100 boxes"}
COUNTS = {"parameters": "parameters that run", "parameters_fusion": "parameters between streams and head"}


def what_was_run(run: Run) -> Section:
    """Return command, data, split, code and machine."""
    split, environment = run.split, run.environment
    sizes = {name: len(names) for name, names in split.parts.items()} if split else {}
    if run.kind == "test":
        words = f"Tested on {counted(run.results.get('pairs'))} {run.unit} of {run.results.get('part')}."
    else:
        words = LOGITS_LEARN if run.kind == "search" and searcher_of(run) == "gradient" else WEIGHTS_LEARN
        words = NOTHING_LEARNS if run.is_onnx else words
        words += UNREAD.format(run.unit) if split and split.protocol not in (PAPER, ALL) else ""
    if split:
        words += PROTOCOLS.get(split.protocol, "").format(sizes.get("train"))
    hardware = f"{environment.get('processor', NONE)}; GPUs: {environment.get('gpus', NONE)}"
    facts = {
        "run folder": str(run.path),
        "command": environment.get("command", NONE),
        "data": f"{run.args.get('data')} ({run.args.get('dataset')})",
        run.unit: ", ".join(f"{name} {counted(size)}" for name, size in sizes.items()),
        "split": f"{split.hash}, protocol {split.protocol}, seed {split.seed}" if split else NONE,
        "seed": run.seed,
        "commit": environment.get("commit", NONE),
        "machine": f"{hardware}; torch {environment.get('torch', NONE)}",
    }
    if "fused" in run.results:
        both = f"{run.results.get('eval_exp_dir')} and {run.results.get('partner_exp_dir')}"
        facts |= {"boxes of": f"{run.results['fused']}: {both}"}
    return Section("What was run", [Words(words), Facts(facts), _options(run)])


def _options(run: Run) -> Facts:
    """Return all options, folded; those that differ from their default come first."""
    options = {name: value for name, value in run.args.items() if name != "data"}
    defaults = run.command.get("defaults")  # runs of older versions have none
    defaults = defaults if isinstance(defaults, dict) else {}
    changed = {n: f"{v} (default {defaults[n]})" for n, v in options.items() if v != defaults.get(n, v)}
    rest = {name: f"{value}" for name, value in options.items() if name not in changed}
    order = "those with another value than the default first" if defaults else "the run does not name their defaults"
    return Facts(changed | rest, f"All options; {order}")


def curves(run: Run) -> Section:
    """Return loss and metric and, for searches, entropy and operation counts over the epochs."""
    if not run.rows:
        return Section("Curves", [])
    pictures = drawings.curves(phases("", run.rows), best_in_words(run))
    counts = [name for name in run.rows[-1] if name.startswith("count_")]
    rows = [row for row in run.rows if "phase" not in row]
    if counts and rows:
        series = {n.removeprefix("count_"): [(row["epoch"], row.get(n, 0)) for row in rows] for n in counts}
        series = {name: values for name, values in series.items() if any(count for _, count in values)}
        last = ", ".join(f"{name} {values[-1][1]}" for name, values in series.items())
        alt = f"Operation counts over the epochs; at the end {last}"
        pictures.append(drawings.lines("operations of the genotype", series, alt))
    if eigenvalues := [(r["epoch"], r["eigenvalue"]) for r in rows if number(r.get("eigenvalue")) is not None]:
        alt = f"Dominant eigenvalue of the logits' Hessian over the epochs, at the end {eigenvalues[-1][1]:.3g}"
        pictures.append(drawings.lines("dominant eigenvalue", {"eigenvalue": eigenvalues}, alt))
    return Section("Curves", [Pictures(pictures)])


def best_in_words(run: Run) -> str:
    best = run.best_by("phase", run.rows)
    return "best " + ", ".join(f"{phase} {points(value)}".lstrip() for phase, value in best.items())


def scores(run: Run) -> Section:
    """Return the scores of a test, or those of the best epoch on val of another run.

    The scores of an evolution are those of sampled paths, not of the genotype that is chosen; they are not shown.
    """
    if run.kind == "search" and searcher_of(run) == "evolution":
        return Section("Scores", [])
    suffix = "" if run.kind == "test" else "_val"
    row = run.results if run.kind == "test" else run.best or {}
    scores = _detector_scores if run.metric == "AP" else _other_scores
    return Section("Scores", scores(run, row, suffix))


def _detector_scores(run: Run, row: dict[str, Any], suffix: str) -> list[Block]:
    """Return AP by class and by size of object."""
    if run.value(f"AP{suffix}") is None:
        return []
    names = dict.fromkeys(n.removesuffix("_val").removeprefix("AP50_") for n in row if n.startswith("AP50_"))
    classes = [name for name in names if name and not name.startswith("scene_") and name != "AP50"]
    table = [["class", "AP", "AP50", "LAMR"]]
    table += [["all classes", points(run.value(f"AP{suffix}")), points(run.value(f"AP50{suffix}")), NONE]]
    table += [[name, *(points(run.value(f"{c}_{name}{suffix}")) for c in table[0][1:])] for name in classes]
    note = ". LAMR: log-average miss rate, lower is better."
    if all(line[-1] == NONE for line in table[1:]):
        table, note = [line[:-1] for line in table], ""
    where = f"{row.get('part')} pairs" if run.kind == "test" else f"val, epoch {row.get('epoch')}"
    sizes = {words: run.value(f"{name}{suffix}") for name, words in SIZES.items()}
    shown = {words: points(value) for words, value in sizes.items() if value is not None}
    return [Table(table[0], table[1:], f"{where}; points of 100{note}"), Facts(shown)]


def _other_scores(run: Run, row: dict[str, Any], suffix: str) -> list[Block]:
    """Return the metrics of a task that does not detect objects, F1 by class as a table."""
    prefixes = ("F1_", "accuracy", run.metric)
    names = [n for n in row if n.startswith(prefixes) and n.endswith(suffix) and not n.startswith(F1_CLASS)]
    names = [n for n in names if suffix or not n.endswith("_val")]
    if not names:
        return []
    facts = Facts({n.removesuffix("_val").replace("_", ", "): points(run.value(n)) for n in names})
    rows = [[n.removeprefix(F1_CLASS), points(run.value(n))] for n in row if n.startswith(F1_CLASS)]
    return [facts, *([Table(["class", "F1"], rows, "points of 100")] if rows else [])]


def cost(run: Run) -> Section:
    """Return time, speed, memory, samples and, for a test, the size of the network."""
    first = {"test": "clean test", "search": "search"}.get(run.kind, "training")
    facts: dict[str, str] = {}
    for name, seconds in run.read("timing.json").items():
        if name.endswith("wall_seconds"):
            facts[f"time, {name.removesuffix('wall_seconds').strip('_') or first}"] = duration(seconds)
    facts |= {"time in all": duration(run.seconds)} if len(facts) > 1 else {}
    memory = max((number(row.get("memory_mb"), 0) for row in run.rows), default=0)
    speeds = [row["pairs_per_s"] for row in run.rows if number(row.get("pairs_per_s")) is not None]
    facts |= {f"{run.unit} per second in training": f"{sum(speeds) / len(speeds):.1f}"} if speeds else {}
    facts |= {"memory at most": f"{memory:,.0f} MiB"} if memory else {}
    passes = sum(number(row.get("pairs"), 0) for row in run.rows)
    facts |= {f"passes of {run.unit}": counted(passes)} if passes else {}
    skipped = sum({str(row.get("phase")): number(row.get("bad_steps"), 0) for row in run.rows}.values())
    facts |= {"steps skipped": counted(skipped)} if skipped else {}
    facts |= {words: counted(run.results.get(name)) for name, words in COUNTS.items() if name in run.results}
    if "macs" in run.results:
        facts[f"multiply-accumulates per {run.unit.removesuffix('s')}"] = counted(run.results["macs"])
    if operation_cost := run.read("costs.json").get("cost"):
        weight = f"weight {run.args.get('lambda_cost')} (costs.json)"
        facts["cost in the search's objective"] = f"{operation_cost}, {weight}"
    return Section("Cost", [Facts(facts)] if facts else [])
