"""The parts of docs/results.md, as Markdown: tables, sentences and cautions about one study's methods.

What is computed: study_summary.py, ranking.py.
"""

import math
import statistics

from benchmarks.fusion_study.ranking import Paired
from benchmarks.fusion_study.summary import HAND_MADE, Group, Ranks, Row, Tau, best, difference, over_random
from benchmarks.road_scenes import spread
from tools.demo.options import BOX_FUSIONS
from tools.demo.summary import markdown

FEW_SEEDS = 5  # below, a deviation says little
FEW_PAIRS = {"flir_aligned_mini": 41}  # test pairs
FAILS = {"thermal": "rgb", "rgb": "thermal"}  # the sensor that is dead, and the one that is left
PAIR_COLUMNS = ("train", "val", "test")


def conditions(rows: list[Row], scenes: str) -> str:
    """Return on what and by what the rows were measured."""
    seeds = {int(r["seed"]) for r in rows}
    told = [f"Seed{'s' * (len(seeds) > 1)} {listed(seeds)}."]
    pairs = {tuple(r[name] for name in PAIR_COLUMNS) for r in rows if all(r.get(name) for name in PAIR_COLUMNS)}
    told += [f"{train} pairs to learn on, {val} to choose on, {test} to test on" for train, val, test in sorted(pairs)]
    told[1:] = [f"{'; '.join(told[1:])}."] if pairs else []
    told += [f"Renderer {scenes}."] if scenes else []
    for name, words in {"commit": "Commit", "device": "Device"}.items():
        values = sorted({r[name] for r in rows if r.get(name)})
        told += [f"{words}{'s' * (len(values) > 1)} {listed(values)}."] if values else []
    return " ".join(told)


def table(found: list[Group]) -> list[list[str]]:
    """Return a line per method."""
    head = ["method", "kind", "AP_val", "AP", "AP50", "runs", "parameters", "MACs, M", "search pair-passes"]
    lines = [[*head, "training pair-passes", "seconds of search", "seconds of training and test"]]
    for g in found:
        scores = [spread(g.values(name)) for name in ("AP_val", "AP", "AP50")]
        costs = [whole(g, "params"), whole(g, "macs", 1e6, 1)]
        costs += [whole(g, n) for n in ("search_pair_passes", "train_pair_passes", "search_seconds", "seconds")]
        lines.append([g.name, g.kind, *scores, str(len(g.rows)), *costs])
    return lines


def whole(group: Group, column: str, unit: float = 1.0, digits: int = 0) -> str:
    """Return a column's mean, or - where it is empty."""
    value = group.mean(column) / unit
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def passes(found: list[Group]) -> str:
    """Tell whether all methods were trained on as many pairs."""
    by_count: dict[int, list[str]] = {}
    for group in found:
        for value in {} if group.name in BOX_FUSIONS else sorted(set(group.values("train_pair_passes"))):
            by_count.setdefault(round(value), []).append(group.name)
    boxes = [g.name for g in found if g.name in BOX_FUSIONS]
    note = f" ({listed(boxes)}: two detectors of as many each)" if boxes else ""
    if not by_count:
        return ""
    if len(by_count) == 1:
        return f"All were trained on {next(iter(by_count)):,} pair-passes on frozen streams{note}."
    words = "; ".join(f"{count:,}: {listed(names)}" for count, names in sorted(by_count.items()))
    return f"**Not all were trained on equally many pair-passes**: {words}{note}."


def choice(found: list[Group], chosen: Group) -> str:
    """Tell which searched method is chosen, and by what."""
    words = f"### Chosen: {chosen.name}\n\nOf the searched methods, among those with the most seeds "
    words += f"({len(chosen.seeds)}), `{chosen.name}` has the best AP_val: {spread(chosen.values('AP_val'))}; "
    words += f"its AP is {spread(chosen.values('AP'))}."
    rest = [g for g in found if g.kind == "searched" and g.mean("AP_val") > chosen.mean("AP_val")]
    for group in rest:
        words += f" `{group.name}` has more AP_val, {spread(group.values('AP_val'))}, at {len(group.seeds)} of them."
    return words


def comparisons(found: list[Group], chosen: Group) -> list[str]:
    """Return the paired differences of the chosen method to the hardest others."""
    single, hardest = best(found, ("single",), "AP"), best(found, HAND_MADE, "AP")
    others = {"best single sensor by AP": single, "best hand-made by AP, the hardest": hardest}
    others |= {"best hand-made by AP_val": best(found, HAND_MADE, "AP_val")}
    others |= {f"searched {g.name}": g for g in found if g.kind == "searched" and g is not chosen}
    lines = [["chosen minus", "which", "AP", "seeds", "t", "p (two-sided)"]]
    for words, group in others.items():
        if group and (told := difference(chosen, group)):
            lines.append([words, group.name, signed(told), str(told.n), *significance(told)])
    note = "Paired over the seeds of both; p is Student's, not corrected for the number of lines. The hardest hand-made"
    note += " one is chosen by the very AP that is compared, so it is favoured over the searched one."
    return [markdown(lines).rstrip(), note] if len(lines) > 1 else []


def signed(told: Paired) -> str:
    deviation = f" ± {100 * told.deviation:.1f}" if told.deviation is not None else ""
    return f"{round(100 * told.mean, 1) + 0.0:+.1f}{deviation}"


def significance(told: Paired) -> list[str]:
    if told.t is None:
        return ["-", "-"]
    return [f"{told.t:.2f}", "< 0.001" if told.p < 0.001 else f"{told.p:.3f}"]


def supernets(found: list[Group]) -> list[str]:
    """Return AP on val of supernet, genotype on the supernet's weights, and genotype retrained."""
    lines = [["AP_val of", "supernet", "genotype on its weights", "genotype retrained"]]
    for group in found:
        told = [group.values(name) for name in ("AP_val_supernet", "AP_val_inherited", "AP_val")]
        if told[0] or told[1]:
            lines.append([group.name, *map(spread, told)])
    return ["### From supernet to genotype", markdown(lines).rstrip()] if len(lines) > 1 else []


def against_random(found: list[Group], random: Group) -> list[str]:
    """Return how far searched and the best hand-made are above the average random genotype of one space."""
    others = [best(found, HAND_MADE, "AP"), *(g for g in found if g.kind == "searched")]
    lines = [["method", "AP", "average random", "relative improvement", "in their deviations", "seeds"]]
    for group in filter(None, others):
        if told := over_random(group, random):
            deviations = "-" if told.deviations is None else f"{told.deviations:+.1f}"
            scores = f"{100 * told.mean:.1f}", f"{100 * told.random:.1f}", f"{100 * told.relative:+.1f} %"
            lines.append([group.name, *scores, deviations, listed(told.seeds)])
    count = len({row["method"] for row in random.rows})
    words = "At the seeds that both have; the deviation is that of the random genotypes' AP within a seed."
    head = f"### Against {count} random genotypes: {random.name}"
    return [head, words, markdown(lines).rstrip()] if len(lines) > 1 else []


RATED = {
    "weights": "loss on `val` on the supernet's weights",
    "brief": "AP on `val` after brief training from the supernet's weights",
}


def ranking_words(told: Ranks) -> str:
    """Return how well a supernet ranks, beside how well that can be told."""
    lines = [["Kendall's tau-b with AP, mean of both trainings", "tau", "95 % interval", "of the ceiling"]]
    for kind, tau in told.ratings.items():
        known = told.ceiling.value > 0 and not math.isnan(tau.value)
        lines.append([RATED[kind], *tau_words(tau), f"{tau.value / told.ceiling.value:.2f}" if known else "-"])
    lines.append(["ceiling: the first training with the second", *tau_words(told.ceiling), ""])
    words = (
        f"{told.n} random genotypes, rated by the supernet, and each trained twice, with two seeds on the same pairs. "
    )
    words += "Two trainings of one genotype differ, so no rating can agree with one of them much better than they do "
    words += "with each other."
    return f"### Does the supernet rank? Seed {told.seed}\n\n{words}\n\n{markdown(lines).rstrip()}"


def tau_words(tau: Tau) -> list[str]:
    low, high = tau.interval
    return ["-", "-"] if math.isnan(tau.value) else [f"{tau.value:.2f}", f"{low:.2f} to {high:.2f}"]


def failures(rows: list[Row], found: list[Group]) -> list[str]:
    """Return AP with either sensor black beside that of the other sensor's own network, over the seeds of both."""
    alone = {g.name: g.by_seed("AP") for g in found if g.kind == "single"}
    lines = [["method", "modality dropout", "seeds", "clean"]]
    lines[0] += [words for dead in FAILS for words in (f"{dead} black", f"{FAILS[dead]} alone", "black - alone")]
    by_method: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_method.setdefault((row["method"], row["modality_dropout"]), []).append(row)
    for (method, dropout), all_rows in by_method.items():
        own = [r for r in all_rows if r["config_hash"] == all_rows[-1]["config_hash"]]
        cells = [method, dropout, listed({int(r["seed"]) for r in own}), spread([float(r["AP"]) for r in own])]
        for dead, other in FAILS.items():
            pairs = [(float(r[f"AP_{dead}_black"]), alone.get(other, {}).get(int(r["seed"]))) for r in own]
            both = [(black, single) for black, single in pairs if single is not None]
            left = [black - single for black, single in both]
            cells += [spread([black for black, _ in pairs]), spread([single for _, single in both])]
            cells += [f"{100 * statistics.mean(left):+.1f}" if left else "-"]
        lines.append(cells)
    words = "AP on the test pairs with one sensor dead, all its pixels 0, and of the network of the other sensor alone."
    return ["### When a sensor fails", words, markdown(lines).rstrip()] if rows else []


def cautions(dataset: str, found: list[Group], dropped: int) -> str:
    """Return what to keep in mind."""
    told = []
    few = [f"{g.name} ({len(g.seeds)})" for g in found if len(g.seeds) < FEW_SEEDS and g.kind != "random"]
    if few:
        told.append(f"fewer than {FEW_SEEDS} seeds, so their deviations and p values say little: {listed(few)}.")
    if any(g.kind == "random" and len(g.seeds) == 1 for g in found):
        told.append("the random genotypes were trained at one seed: their deviation is over genotypes, not over seeds.")
    if dataset in FEW_PAIRS:
        told.append(f"{FEW_PAIRS[dataset]} test pairs are few: differences of some points may be chance.")
    if dropped:
        told.append(f"{dropped} row{'s' * (dropped > 1)} of earlier settings of the same methods left out.")
    searched = [g for g in found if g.kind == "searched"]
    if len(searched) > 2:
        told.append(f"{len(searched)} searched methods were tried; the best of many is partly the luckiest.")
    return "\n".join(["### Caution", "", *(f"- {line[0].upper()}{line[1:]}" for line in told)]) if told else ""


def listed(values) -> str:
    return ", ".join(map(str, sorted(values) if isinstance(values, (set, frozenset)) else values))
