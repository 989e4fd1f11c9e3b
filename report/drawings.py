"""Charts of a report: matplotlib figures as inline SVG.

Each has a text alternative. Its greys are variables of the page, so it follows the page's dark mode.
"""

import io
import re
from collections.abc import Iterable

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.progress import metric_of
from models.search.fusion_cells.draw import modality_colours
from report.formatting import as_shown
from report.page import Picture
from report.plots import COLOURS, as_text, line_style, panels_of, tidy
from utils.errors import printable

# The variable of page.html that replaces each grey.
GREYS = {"#000000": "ink", "#222222": "ink", "#444444": "step", "#777777": "muted", "#bbbbbb": "faint"}
GREYS |= {"#ffffff": "paper", "#f7f7f7": "panel", "#e2e2e2": "line", "#e5e5e5": "line"}
SIZE = 5.2, 3.3  # of a chart: width and height in inches
# Ids that nothing refers to. matplotlib numbers them from 1 in each figure, so they would repeat on a page.
UNUSED_ID = re.compile(r' id="(?![mpC]\w{8,}")[^"]*"')


def picture(figure: Figure, alt: str, caption: str = "") -> Picture:
    """Return a figure as a picture of the page.

    Args:
        figure: the figure to draw.
        alt: the text alternative: what it shows and its main numbers.
        caption: a line below it.
    """
    buffer = io.StringIO()
    alt = printable(alt)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg")
    source = buffer.getvalue()
    source = source[source.index("<svg") :]
    source = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", source, flags=re.DOTALL)
    source = UNUSED_ID.sub("", source).replace("xlink:href", "href")
    for colour, name in GREYS.items():
        source = re.sub(f"{colour}(?![0-9a-f])", f"var(--{name})", source, flags=re.IGNORECASE)
    source = re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg role="img" \1 aria-label="{_quoted(alt)}">', source, count=1
    )
    return Picture(Markup(source), figure.get_figwidth(), caption)


def _quoted(text: str) -> str:
    """Escape a text for an attribute and for the replacement of `re.sub`."""
    return str(escape(text)).replace("\\", "\\\\")


def chart(width: float = SIZE[0], height: float = SIZE[1]) -> tuple[Figure, Axes]:
    """Return an empty figure of a size in inches, with axes."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    return figure, axes


def curves(runs: dict[str, list[dict]], best: str) -> list[Picture]:
    """Return charts of loss, metric on val and, for searches, entropy over the epochs.

    Args:
        runs: rows of metrics.jsonl by label.
        best: the best values of the metric, in words.
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
        if axes.get_legend() is None and (len(runs) > 1 or len(axes.get_lines()) > 1):
            as_text(axes.legend(fontsize=8, frameon=False))
        pictures.append(picture(figure, alt))
    return pictures


def lines(title: str, series: dict[str, list[tuple[float, float]]], alt: str, unit: str = "epoch") -> Picture:
    """Return a line chart with a legend.

    Args:
        title: of the chart.
        series: points (x, y) by name.
        alt: the text alternative.
        unit: label of the x axis.
    """
    figure, axes = chart()
    for number, (name, points) in enumerate(series.items()):
        colour, style = line_style(number)
        x, y = np.array(points, float).T
        axes.plot(x, y, color=colour, linestyle=style, marker="o", markersize=2.5, label=as_shown(name))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(series) > 1:
        as_text(figure.legend(loc="outside right upper", fontsize=8, frameon=False))
    return picture(figure, alt)


def precision_recall(curves: dict[str, list[float | None]], alt: str) -> Picture:
    """Return precision against recall of each class at IoU 0.5.

    Args:
        curves: precision at evenly spaced recalls from 0 to 1, by class.
        alt: the text alternative.
    """
    figure, axes = chart()
    for number, (name, values) in enumerate(curves.items()):
        colour, style = line_style(number)
        axes.plot(np.linspace(0, 1, len(values)), values, color=colour, linestyle=style, label=as_shown(name))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title("precision against recall, IoU 0.5", fontsize=10)
    as_text(axes.legend(fontsize=9, frameon=False))
    return picture(figure, alt)


def bars(title: str, values: dict[str, float], alt: str, unit: str) -> Picture:
    """Return a chart of horizontal bars, the first on top."""
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
    """Return the relaxed weights of one level over the epochs: a panel per step, a line per alternative.

    Args:
        level: name of the level.
        kind: "ops" or "edges" of alphas.jsonl.
        rows: rows of alphas.jsonl.
        names: names of the panels.
        best: the epoch with the best metric on val, marked by a dotted line.
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
            colour, style = line_style(number)
            colour = modality_colours(last).get(name.partition("/")[0], colour)
            width = 2.2 if name == strongest else 1
            label = as_shown(name) if kind == "ops" or name == strongest else None
            x, y = np.array(points, float).T
            axes.plot(x, y, color=colour, linestyle=style, linewidth=width, label=label)
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
