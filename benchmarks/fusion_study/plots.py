"""Pictures of a fusion study: AP per method with error bars, and AP against cost with its front.

Drawn from rows of results/fusion_study.csv, one panel (or row of panels) per dataset and config.
"""

import math
import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.fusion_study.config import KINDS
from benchmarks.fusion_study.summary import Group, Row, front, groups, parts
from report.plots import COLOURS, DPI, new_figure

COLOUR = dict(zip(KINDS, (COLOURS[5], COLOURS[0], COLOURS[2], COLOURS[4], COLOURS[1])))
WORDS = {"handmade": "hand-made", "widened": "hand-made, widened", "random": "random genotypes"}
COSTS = {"macs": (1e6, "multiply-accumulates per pair, millions"), "params": (1e3, "parameters, thousands")}


def plot_study(rows: list[Row], path: str | Path) -> Path:
    """Write a PNG of AP per method: a bar of the mean, the deviation over seeds, a dot per run; the best is on top."""
    found = [(key, [g for g in groups(part) if g.values("AP")]) for key, part in parts(rows).items()]
    most = max(len(shown) for _, shown in found)
    figure = new_figure(6.8 * len(found), 0.27 * most + 1.5, "constrained")
    for place, ((dataset, _, config), shown) in enumerate(found, 1):
        axes = figure.add_subplot(1, len(found), place)
        _frame(axes, f"{dataset}: {config}", "AP on the test pairs, mean ± deviation, points of 100")
        axes.grid(axis="x", color="#E5E5E5")
        _bars(axes, sorted(shown, key=lambda g: g.mean("AP")), most)
    _kinds(figure, {g.kind for _, shown in found for g in shown})
    figure.savefig(path)
    return Path(path)


def _bars(axes: Axes, shown: list[Group], most: int) -> None:
    """Draw methods from the bottom up. `most`: the largest number of methods of a panel, so that bars are alike."""
    for height, group in enumerate(shown):
        values, colour = [100 * v for v in group.values("AP")], COLOUR[group.kind]
        mean = statistics.mean(values)
        axes.barh(height, mean, height=0.72, color=colour, alpha=0.55, linewidth=0)
        if len(values) > 1:
            xerr = statistics.stdev(values)
            axes.errorbar(mean, height, xerr=xerr, fmt="none", ecolor="#333333", capsize=3, elinewidth=1.1, zorder=3)
        offsets = [height + 0.22 * math.sin(2.4 * i) for i in range(len(values))]  # so that dots do not overlap
        axes.plot(values, offsets, "o", markersize=3.2, color=colour, markeredgecolor="#333333", markeredgewidth=0.4)
    labels = [f"{g.name} ({len(g.rows)})" for g in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=8, parse_math=False)
    axes.set_ylim(len(shown) - most - 0.6, len(shown) - 0.4)
    axes.set_xlim(left=0)


def plot_pareto(rows: list[Row], path: str | Path) -> Path:
    """Write a PNG of AP against multiply-accumulates and parameters, with the Pareto front."""
    found = [(key, [g for g in groups(part) if g.values("AP")]) for key, part in parts(rows).items()]
    figure = new_figure(11.5, 4.6 * len(found) + 0.5, "constrained")
    for row, ((dataset, _, config), shown) in enumerate(found):
        for column, (cost, (unit, words)) in enumerate(COSTS.items()):
            axes = figure.add_subplot(len(found), 2, 2 * row + column + 1)
            _frame(axes, f"{dataset}: {config}", words)
            axes.set_ylabel("AP, points of 100")
            axes.grid(color="#E5E5E5")
            _points(axes, [g for g in shown if g.values(cost)], cost, unit)
    _kinds(figure, {g.kind for _, shown in found for g in shown})
    figure.savefig(path)
    return Path(path)


def _points(axes: Axes, shown: list[Group], cost: str, unit: float) -> None:
    points = {g.name: (g.mean(cost) / unit, 100 * g.mean("AP")) for g in shown}
    if not points:
        axes.text(0.5, 0.5, "no row has this number", ha="center", va="center", transform=axes.transAxes)
        return
    for group in shown:
        if group.kind == "random":
            each = [(float(r[cost]) / unit, 100 * float(r["AP"])) for r in group.rows if r.get(cost) and r.get("AP")]
            axes.plot(*zip(*each), ".", markersize=4, color=COLOUR["random"], alpha=0.5)
        axes.plot(*points[group.name], "o", markersize=7, color=COLOUR[group.kind], markeredgecolor="white")
    best = front(
        {g.name: points[g.name] for g in shown if g.kind != "random"}
    )  # a mean of random genotypes is not a network
    x, y = zip(*(points[name] for name in best))
    axes.plot(x, y, drawstyle="steps-post", linestyle="--", color="#777777", linewidth=1, zorder=1)
    axes.margins(x=0.18, y=0.1)
    axes.autoscale_view()
    below = -math.inf
    for name in best:  # each name is up and left of its dot, above the name before it
        height = axes.transData.transform(points[name])[1] * 72 / DPI
        below = max(height + 3, below + 9)
        offset = (-5, below - height)
        axes.annotate(name, points[name], offset, textcoords="offset points", ha="right", fontsize=8, parse_math=False)


def _frame(axes: Axes, title: str, words: str) -> None:
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.set_xlabel(words, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _kinds(figure, kinds: set[str]) -> None:
    """Draw the legend of kinds."""
    shown = [kind for kind in KINDS if kind in kinds]
    columns = len(shown) if figure.get_figwidth() > 8 else 3
    marks = [Line2D([], [], marker="o", linestyle="", markersize=7, color=COLOUR[kind]) for kind in shown]
    names = [WORDS.get(kind, kind) for kind in shown]
    figure.legend(marks, names, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
