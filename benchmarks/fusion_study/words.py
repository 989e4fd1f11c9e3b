"""The parts of docs/results.md as Markdown: tables, sentences and cautions about the methods of a study.

Numbers: summary.py and ranking.py.
"""

import math
import statistics

from benchmarks.fusion_study.ranking import Paired
from benchmarks.fusion_study.summary import HAND_MADE, Group, Ranks, Row, Tau, best, difference, over_random
from benchmarks.road_scenes import mean_deviation
from tools.demo.summary import markdown
from tools.demo.tasks import BOX_FUSIONS

FEW_SEEDS = 5  # with fewer seeds, a deviation says little
FEW_PAIRS = {"flir_aligned_mini": 41}  # test pairs
FAILS = {"thermal": "rgb", "rgb": "thermal"}  # the dead sensor and the other one
PAIR_COLUMNS = ("train", "val", "test")


def conditions(rows: list[Row], scenes: str) -> str:
    """Return seeds, pairs, renderer, commits and devices of the rows."""
    seeds = {int(r["seed"]) for r in rows}
    sentences = [f"Seed{'s' * (len(seeds) > 1)} {listed(seeds)}."]
    pairs = {tuple(r[name] for name in PAIR_COLUMNS) for r in rows if all(r.get(name) for name in PAIR_COLUMNS)}
    sentences += [
        f"{train} pairs to learn on, {val} to choose on, {test} to test on" for train, val, test in sorted(pairs)
    ]
    sentences[1:] = [f"{'; '.join(sentences[1:])}."] if pairs else []
    sentences += [f"Renderer {scenes}."] if scenes else []
    for name, words in {"commit": "Commit", "device": "Device"}.items():
        values = sorted({r[name] for r in rows if r.get(name)})
        sentences += [f"{words}{'s' * (len(values) > 1)} {listed(values)}."] if values else []
    return " ".join(sentences)


def table(found: list[Group]) -> list[list[str]]:
    """Return a line per method."""
    head = ["method", "kind", "AP_val", "AP", "AP50", "runs", "parameters", "MACs, M", "search pair-passes"]
    lines = [[*head, "training pair-passes", "seconds of search", "seconds of training and test"]]
    for g in found:
        scores = [mean_deviation(g.values(name)) for name in ("AP_val", "AP", "AP50")]
        costs = [whole(g, "params"), whole(g, "macs", 1e6, 1)]
        costs += [whole(g, n) for n in ("search_pair_passes", "train_pair_passes", "search_seconds", "seconds")]
        lines.append([g.name, g.kind, *scores, str(len(g.rows)), *costs])
    return lines


def whole(group: Group, column: str, unit: float = 1.0, digits: int = 0) -> str:
    """Return the mean of a column; "-" if it is empty."""
    value = group.mean(column) / unit
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def passes(found: list[Group]) -> str:
    """Return a sentence on whether all methods were trained on equally many pairs."""
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
    """Return a paragraph on which searched method is chosen, and by which score."""
    words = f"### Chosen: {chosen.name}\n\nOf the searched methods, among those with the most seeds "
    words += f"({len(chosen.seeds)}), `{chosen.name}` has the best AP_val: {mean_deviation(chosen.values('AP_val'))}; "
    words += f"its AP is {mean_deviation(chosen.values('AP'))}."
    rest = [g for g in found if g.kind == "searched" and g.mean("AP_val") > chosen.mean("AP_val")]
    for group in rest:
        words += (
            f" `{group.name}` has more AP_val, {mean_deviation(group.values('AP_val'))}, at {len(group.seeds)} of them."
        )
    return words


def comparisons(found: list[Group], chosen: Group) -> list[str]:
    """Return the paired differences of the chosen method to the best other methods."""
    single, hardest = best(found, ("single",), "AP"), best(found, HAND_MADE, "AP")
    others = {"best single sensor by AP": single, "best hand-made by AP, the hardest": hardest}
    others |= {"best hand-made by AP_val": best(found, HAND_MADE, "AP_val")}
    others |= {f"searched {g.name}": g for g in found if g.kind == "searched" and g is not chosen}
    lines = [["chosen minus", "which", "AP", "seeds", "t", "p (two-sided)"]]
    for words, group in others.items():
        if group and (result := difference(chosen, group)):
            lines.append([words, group.name, signed(result), str(result.n), *significance(result)])
    note = "Paired over the seeds of both; p is Student's, not corrected for the number of lines. The hardest hand-made"
    note += " one is chosen by the very AP that is compared, so it is favoured over the searched one."
    return [markdown(lines).rstrip(), note] if len(lines) > 1 else []


def signed(result: Paired) -> str:
    deviation = f" ± {100 * result.deviation:.1f}" if result.deviation is not None else ""
    return f"{round(100 * result.mean, 1) + 0.0:+.1f}{deviation}"


def significance(result: Paired) -> list[str]:
    if result.t is None:
        return ["-", "-"]
    return [f"{result.t:.2f}", "< 0.001" if result.p < 0.001 else f"{result.p:.3f}"]


def supernets(found: list[Group]) -> list[str]:
    """Return AP on val of supernet, genotype on the supernet's weights, and genotype retrained."""
    lines = [["AP_val of", "supernet", "genotype on its weights", "genotype retrained"]]
    for group in found:
        columns = [group.values(name) for name in ("AP_val_supernet", "AP_val_inherited", "AP_val")]
        if columns[0] or columns[1]:
            lines.append([group.name, *map(mean_deviation, columns)])
    return ["### From supernet to genotype", markdown(lines).rstrip()] if len(lines) > 1 else []


def against_random(found: list[Group], random: Group) -> list[str]:
    """Return how far searched and the best hand-made are above the average random genotype of one space."""
    others = [best(found, HAND_MADE, "AP"), *(g for g in found if g.kind == "searched")]
    lines = [["method", "AP", "average random", "relative improvement", "in their deviations", "seeds"]]
    for group in filter(None, others):
        if result := over_random(group, random):
            deviations = "-" if result.deviations is None else f"{result.deviations:+.1f}"
            scores = f"{100 * result.mean:.1f}", f"{100 * result.random:.1f}", f"{100 * result.relative:+.1f} %"
            lines.append([group.name, *scores, deviations, listed(result.seeds)])
    count = len({row["method"] for row in random.rows})
    words = "At the seeds that both have; the deviation is that of the random genotypes' AP within a seed."
    head = f"### Against {count} random genotypes: {random.name}"
    return [head, words, markdown(lines).rstrip()] if len(lines) > 1 else []


RATED = {
    "weights": "loss on `val` on the supernet's weights",
    "brief": "AP on `val` after brief training from the supernet's weights",
}


def ranking_words(result: Ranks) -> str:
    """Return how well a supernet ranks, with the agreement of two trainings as the ceiling."""
    lines = [["Kendall's tau-b with AP, mean of both trainings", "tau", "95 % interval", "of the ceiling"]]
    for kind, tau in result.ratings.items():
        is_defined = result.ceiling.value > 0 and not math.isnan(tau.value)
        share = f"{tau.value / result.ceiling.value:.2f}" if is_defined else "-"
        lines.append([RATED[kind], *tau_words(tau), share])
    lines.append(["ceiling: the first training with the second", *tau_words(result.ceiling), ""])
    words = f"{result.n} random genotypes, rated by the supernet, and each trained twice, with two seeds on the same "
    words += "pairs. Two trainings of one genotype differ, so no rating can agree with one of them much better than "
    words += "they do with each other."
    return f"### Does the supernet rank? Seed {result.seed}\n\n{words}\n\n{markdown(lines).rstrip()}"


def tau_words(tau: Tau) -> list[str]:
    low, high = tau.interval
    return ["-", "-"] if math.isnan(tau.value) else [f"{tau.value:.2f}", f"{low:.2f} to {high:.2f}"]


def failures(rows: list[Row], found: list[Group]) -> list[str]:
    """Return AP with one sensor black, and AP of the network of the other sensor alone, over the seeds of both."""
    alone = {g.name: g.by_seed("AP") for g in found if g.kind == "single"}
    lines = [["method", "modality dropout", "seeds", "clean"]]
    lines[0] += [words for dead in FAILS for words in (f"{dead} black", f"{FAILS[dead]} alone", "black - alone")]
    by_method: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_method.setdefault((row["method"], row["modality_dropout"]), []).append(row)
    for (method, dropout), all_rows in by_method.items():
        current = [r for r in all_rows if r["config_hash"] == all_rows[-1]["config_hash"]]
        seeds = listed({int(r["seed"]) for r in current})
        cells = [method, dropout, seeds, mean_deviation([float(r["AP"]) for r in current])]
        for dead, other in FAILS.items():
            pairs = [(float(r[f"AP_{dead}_black"]), alone.get(other, {}).get(int(r["seed"]))) for r in current]
            both = [(black, single) for black, single in pairs if single is not None]
            losses = [black - single for black, single in both]
            cells += [mean_deviation([black for black, _ in pairs]), mean_deviation([single for _, single in both])]
            cells += [f"{100 * statistics.mean(losses):+.1f}" if losses else "-"]
        lines.append(cells)
    words = "AP on the test pairs with one sensor dead, all its pixels 0, and of the network of the other sensor alone."
    return ["### When a sensor fails", words, markdown(lines).rstrip()] if rows else []


def cautions(dataset: str, found: list[Group], dropped: int) -> str:
    """Return cautions for the reader."""
    notes = []
    few = [f"{g.name} ({len(g.seeds)})" for g in found if len(g.seeds) < FEW_SEEDS and g.kind != "random"]
    if few:
        notes.append(f"fewer than {FEW_SEEDS} seeds, so their deviations and p values say little: {listed(few)}.")
    if any(g.kind == "random" and len(g.seeds) == 1 for g in found):
        notes.append(
            "the random genotypes were trained at one seed: their deviation is over genotypes, not over seeds."
        )
    if dataset in FEW_PAIRS:
        notes.append(f"{FEW_PAIRS[dataset]} test pairs are few: differences of some points may be chance.")
    if dropped:
        notes.append(f"{dropped} row{'s' * (dropped > 1)} of earlier settings of the same methods left out.")
    searched = [g for g in found if g.kind == "searched"]
    if len(searched) > 2:
        notes.append(f"{len(searched)} searched methods were tried; the best of many is partly the luckiest.")
    return "\n".join(["### Caution", "", *(f"- {line[0].upper()}{line[1:]}" for line in notes)]) if notes else ""


def listed(values) -> str:
    return ", ".join(map(str, sorted(values) if isinstance(values, (set, frozenset)) else values))
