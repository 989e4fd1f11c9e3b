"""Write docs/results.md and its pictures from the rows of the fusion study, and from nothing else.

    python -m benchmarks.fusion_report [--out docs/results.md]

The same rows give the same text. What is computed: study_summary.py, ranking.py; the pictures: fusion_plots.py.
"""

import math
import statistics
import sys
from pathlib import Path

from benchmarks.fusion_plots import plot_pareto, plot_study
from benchmarks.ranking import Paired
from benchmarks.road_scenes import spread
from benchmarks.rows import read_rows
from benchmarks.study_rows import RANKING, STUDY
from benchmarks.study_summary import (
    HAND_MADE,
    Group,
    Key,
    Ranks,
    Row,
    best,
    difference,
    groups,
    over_random,
    parts,
    ranks,
)
from tools.demo_options import BOX_FUSIONS
from tools.summary import markdown
from utils.args import Parser, command
from utils.commands import ROOT

HEAD = """\
# Results of the fusion study

Made from the rows of `results/fusion_study.csv` and `results/fusion_ranking.csv` by `python -m benchmarks.fusion_report`;
not written by hand. AP, AP50 and differences are in points of 100, mean ± standard deviation over the seeds. Each seed
renders scenes of its own, where they are rendered, pretrains its own streams and trains every method on the same pairs;
so methods are compared seed by seed. A method is chosen by AP on `val` (AP_val) and reported by AP on the test pairs.
"""
PICTURES = {"fusion_study": "AP per method", "fusion_pareto": "AP against multiply-accumulates and parameters"}
FEW_SEEDS = 5  # below, a deviation says little
FEW_PAIRS = {"flir_aligned_mini": 41}  # test pairs
PAIR_COLUMNS = ("train", "val", "test")


@command
def main(argv: list[str]) -> None:
    parser = Parser("Write what the rows of the fusion study say.")
    parser.add_argument("--out", default=str(ROOT / "docs/results.md"), help="pictures go to images/ beside it")
    out = Path(parser.parse_args(argv).out)
    rows, ranking = read_rows(STUDY), read_rows(RANKING)
    (out.parent / "images").mkdir(parents=True, exist_ok=True)
    out.write_text(report(rows, ranking), encoding="utf-8")
    if rows:
        plot_study(rows, out.parent / "images/fusion_study.png")
        plot_pareto(rows, out.parent / "images/fusion_pareto.png")
    print(f"results: {out}")


def report(rows: list[Row], ranking: list[Row]) -> str:
    """Return all that the rows say, as Markdown."""
    if not rows:
        return f"{HEAD}\nThere are no rows yet.\n"
    pictures = [f"![{words}](images/{name}.png)" for name, words in PICTURES.items()]
    ranked = parts(ranking)
    sections = [section(key, own, ranked.get(key, [])) for key, own in parts(rows).items()]
    return "\n\n".join([HEAD.rstrip(), *pictures, *sections]) + "\n"


def section(key: Key, rows: list[Row], ranking: list[Row]) -> str:
    """Return what one study's rows say."""
    dataset, scenes, config = key
    found = groups(rows)
    used = [row for group in found for row in group.rows]
    blocks = [f"## {dataset}: {config}", conditions(used, scenes), markdown(table(found)).rstrip(), passes(found)]
    chosen = best(found, ("searched",), "AP_val")
    if chosen:
        blocks += [choice(found, chosen), *comparisons(found, chosen)]
    blocks += supernets(found)
    blocks += against_random(found)
    blocks += [ranking_words(r) for r in ranks(ranking)]
    return "\n\n".join([*blocks, cautions(dataset, found, len(rows) - len(used))])


def conditions(rows: list[Row], scenes: str) -> str:
    """Return on what and by what the rows were measured."""
    told = [f"Seeds {listed({int(r['seed']) for r in rows})}."]
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


def against_random(found: list[Group]) -> list[str]:
    """Return how far searched and the best hand-made are above the average random genotype."""
    random = next((g for g in found if g.kind == "random"), None)
    if random is None:
        return []
    others = [best(found, HAND_MADE, "AP"), *(g for g in found if g.kind == "searched")]
    lines = [["method", "AP", "average random", "relative improvement", "in their deviations", "seeds"]]
    for group in filter(None, others):
        if told := over_random(group, random):
            deviations = "-" if told.deviations is None else f"{told.deviations:+.1f}"
            numbers = [
                f"{100 * told.mean:.1f}",
                f"{100 * told.random:.1f}",
                f"{100 * told.relative:+.1f} %",
                deviations,
            ]
            lines.append([group.name, *numbers, listed(told.seeds)])
    count = len({row["method"] for row in random.rows})
    words = f"### Against {count} random genotypes\n\nAt the seeds that both have; the deviation is that of the random "
    words += "genotypes' AP within a seed."
    return [words, markdown(lines).rstrip()] if len(lines) > 1 else []


def ranking_words(told: Ranks) -> str:
    """Return how well a supernet ranks, beside how well that can be told."""
    share = f"{told.tau / told.ceiling:.2f} of the ceiling" if told.ceiling > 0 else "the ceiling is not above 0"
    kinds = {
        "supernet and AP, mean of both trainings": (told.tau, told.interval),
        "supernet and AP of the first training": (told.tau_first, told.interval_first),
        "ceiling: AP of the first and of the second training": (told.ceiling, told.interval_ceiling),
    }
    lines = [["Kendall's tau-b", "tau", "95 % interval"]]
    lines += [[words, f"{tau:.2f}", f"{low:.2f} to {high:.2f}"] for words, (tau, (low, high)) in kinds.items()]
    words = f"### Does the supernet rank? Seed {told.seed}\n\n{told.n} random genotypes, rated by the loss on `val` with the"
    words += (
        " supernet's weights, and each trained twice, with two seeds on the same pairs. Two trainings of one genotype"
    )
    words += " differ, so no rating can agree with one of them much better than they do with each other."
    return f"{words}\n\n{markdown(lines).rstrip()}\n\nThe supernet reaches {share} (mean of both trainings)."


def cautions(dataset: str, found: list[Group], dropped: int) -> str:
    """Return what to keep in mind."""
    told = []
    few = [f"{g.name} ({len(g.seeds)})" for g in found if len(g.seeds) < FEW_SEEDS and g.kind != "random"]
    if few:
        told.append(f"fewer than {FEW_SEEDS} seeds, so their deviations and p values say little: {listed(few)}.")
    random = next((g for g in found if g.kind == "random"), None)
    if random and len(random.seeds) == 1:
        told.append("the random genotypes were trained at one seed: their deviation is over genotypes, not over seeds.")
    if dataset in FEW_PAIRS:
        told.append(f"{FEW_PAIRS[dataset]} test pairs are few: differences of some points may be chance.")
    if dropped:
        told.append(f"{dropped} rows of earlier settings of the same methods are left out.")
    seeds = [statistics.mean(g.by_seed("AP").values()) for g in found if g.kind == "searched" and g.values("AP")]
    if len(seeds) > 2:
        told.append(f"{len(seeds)} searched methods were tried; the best of many is partly the luckiest.")
    return "\n".join(["### Caution", "", *(f"- {line[0].upper()}{line[1:]}" for line in told)]) if told else ""


def listed(values) -> str:
    return ", ".join(map(str, sorted(values) if isinstance(values, (set, frozenset)) else values))


if __name__ == "__main__":
    sys.exit(main())
