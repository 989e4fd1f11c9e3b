"""Drawings of a report: matplotlib figures as SVG that lies in the page, carries its text alternative, and whose
greys are the page's, so that it is dark where the page is."""

import io
import re
from collections.abc import Iterable

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.progress import metric_of
from models.search.fusion_cells.draw import MODALITY_COLOURS
from report.page import Picture
from report.plots import COLOURS, STYLES, as_shown, as_text, panels_of, tidy
from utils.errors import printable

# What the drawings' greys are on the page: variables of page.html.
GREYS = {"#000000": "ink", "#222222": "ink", "#444444": "step", "#777777": "muted", "#bbbbbb": "faint"}
GREYS |= {"#ffffff": "paper", "#f7f7f7": "panel", "#e2e2e2": "line", "#e5e5e5": "line"}
SIZE = 5.2, 3.3  # of a chart, inches
USED_ID = re.compile(r' id="(?![mpC]\w{8,}")[^"]*"')  # all others: matplotlib numbers them from 1 in each drawing


def picture(figure: Figure, alt: str, caption: str = "") -> Picture:
    """Return a figure as a drawing of the page.

    Args:
        alt: the text alternative: what it shows, and the numbers that matter.
    """
    buffer = io.StringIO()
    alt = printable(alt)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg")
    source = buffer.getvalue()
    source = source[source.index("<svg") :]
    source = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", source, flags=re.DOTALL)
    source = USED_ID.sub("", source).replace("xlink:href", "href")
    for colour, name in GREYS.items():
        source = re.sub(f"{colour}(?![0-9a-f])", f"var(--{name})", source, flags=re.IGNORECASE)
    source = re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg role="img" \1 aria-label="{_quoted(alt)}">', source, count=1
    )
    return Picture(Markup(source), figure.get_figwidth(), caption)


def _quoted(text: str) -> str:
    """Return a text as a value of an attribute, and as a replacement of `re.sub`."""
    return str(escape(text)).replace("\\", "\\\\")


def chart(width: float = SIZE[0], height: float = SIZE[1]) -> tuple[Figure, Axes]:
    """Return an empty figure with axes; inches."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    return figure, axes


def curves(runs: dict[str, list[dict]], best: str) -> list[Picture]:
    """Return loss, AP on val and, of searches, entropy over the epochs.

    Args:
        runs: rows of metrics.jsonl by label.
        best: what the AP reached, in words.
    """
    alts = (
        "Loss in training over the epochs",
        f"{metric_of(next(iter(runs.values()))[0])} on val over the epochs: {best}",
        "Entropy of the search's weights over the epochs",
    )
    pictures = []
    for draw, alt in zip(panels_of(runs), alts):
        figure, axes = chart()
        draw(axes)
        own = axes.get_legend()
        if own is None and (len(runs) > 1 or len(axes.get_lines()) > 1):
            as_text(axes.legend(fontsize=8, frameon=False))
        pictures.append(picture(figure, alt))
    return pictures


def lines(title: str, series: dict[str, list[tuple[float, float]]], alt: str, unit: str = "epoch") -> Picture:
    """Return a chart of some lines, each with its name at the side."""
    figure, axes = chart()
    for number, (name, points) in enumerate(series.items()):
        style = {"color": COLOURS[number % 8], "linestyle": STYLES[number // 8 % 4], "marker": "o", "markersize": 2.5}
        axes.plot(*np.array(points, float).T, label=as_shown(name), **style)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(series) > 1:
        as_text(figure.legend(loc="outside right upper", fontsize=8, frameon=False))
    return picture(figure, alt)


def precision_recall(curves: dict[str, list[float | None]], alt: str) -> Picture:
    """Return precision against recall of each class at IoU 0.5.

    Args:
        curves: by class, precision at recalls from 0 to 1 in even steps.
    """
    figure, axes = chart()
    for number, (name, values) in enumerate(curves.items()):
        style = {"color": COLOURS[number % 8], "linestyle": STYLES[number // 8 % 4]}
        axes.plot(np.linspace(0, 1, len(values)), values, label=as_shown(name), **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title("precision against recall, IoU 0.5", fontsize=10)
    as_text(axes.legend(fontsize=9, frameon=False))
    return picture(figure, alt)


def bars(title: str, values: dict[str, float], alt: str, unit: str) -> Picture:
    """Return horizontal bars, one per name, the first on top."""
    figure, axes = chart(SIZE[0], 0.9 + 0.32 * len(values))
    drawn = axes.barh(range(len(values)), list(values.values()), 0.8, color=COLOURS[0])
    axes.bar_label(drawn, fmt="%.1f", fontsize=8, padding=2)
    axes.set_yticks(range(len(values)), [as_shown(name) for name in values], parse_math=False)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
    return picture(figure, alt)


def alphas(level: str, kind: str, rows: list[dict], names: Iterable[str], best: int) -> Picture:
    """Return how the weights of one level moved: a panel per step, a line per alternative.

    Args:
        kind: "ops" or "edges" of alphas.jsonl.
        rows: of alphas.jsonl.
        names: of the panels.
        best: the epoch that counts.
    """
    names = list(names)
    figure = Figure(figsize=(SIZE[0], 2.1 * len(names) + 0.5), facecolor="white", layout="constrained")
    first = None
    for place, step in enumerate(names):
        first = axes = figure.add_subplot(len(names), 1, place + 1, sharex=first)
        tidy(axes)
        last = rows[-1]["levels"][level][kind][step]
        strongest = max(last, key=last.get)
        for number, name in enumerate(last):
            points = [(row["epoch"], row["levels"][level][kind][step].get(name, np.nan)) for row in rows]
            colour = MODALITY_COLOURS.get(name.partition("/")[0], COLOURS[number % 8])
            width = {"linewidth": 2.2 if name == strongest else 1}
            label = as_shown(name) if kind == "ops" or name == strongest else None
            axes.plot(*np.array(points, float).T, color=colour, linestyle=STYLES[number // 8 % 4], label=label, **width)
        axes.axvline(best, color="#777777", linestyle=":", linewidth=1)
        axes.set_title(f"{step}: {as_shown(strongest)}", fontsize=9, loc="left", parse_math=False)
        as_text(axes.legend(fontsize=7, frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5)))
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    what = {"ops": "Weights of the operations", "edges": "Weights of the inputs"}[kind]
    ends = ", ".join(
        f"{s}: {max(w, key=w.get)} {max(w.values()):.2f}" for s, w in rows[-1]["levels"][level][kind].items()
    )
    return picture(figure, f"{what} of {level} over the epochs. At the end {ends}", f"{level}: {what.lower()}")
