"""Charts of a report: matplotlib figures as inline SVG.

Each has a text alternative. Its greys are variables of the page, so it follows the page's dark mode.
"""

import io
import re

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.progress import metric_of
from models.search.fusion_cells.draw import modality_colours
from report.formatting import as_shown
from report.page import Picture
from report.plots import COLOURS, add_legend, line_style, new_figure, panels_of, tidy
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
    source = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    source = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", source, flags=re.DOTALL)
    source = UNUSED_ID.sub("", source).replace("xlink:href", "href")
    for colour, name in GREYS.items():
        source = re.sub(f"{colour}(?![0-9a-f])", f"var(--{name})", source, flags=re.IGNORECASE)
    head = f' aria-label="{escape(alt)}">'
    source = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda m: f'<svg role="img" {m[1]}{head}', source, count=1)
    return Picture(Markup(source), figure.get_figwidth(), caption)


def chart(title: str, unit: str, height: float = SIZE[1], grid: str = "both") -> tuple[Figure, Axes]:
    """Return a figure with axes that have a title and the label of the x axis; `grid` as of `tidy`."""
    figure = new_figure(SIZE[0], height, "constrained")
    axes = figure.add_subplot()
    tidy(axes, grid=grid)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
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
        figure = new_figure(*SIZE, "constrained")
        axes = figure.add_subplot()
        draw(axes)
        if axes.get_legend() is None and (len(runs) > 1 or len(axes.get_lines()) > 1):
            add_legend(axes, fontsize=8)
        pictures.append(picture(figure, alt))
    return pictures


def lines(title: str, series: dict[str, list[tuple[float, float]]], alt: str) -> Picture:
    """Return a line chart over the epochs, with a legend if there are several lines.

    Args:
        title: of the chart.
        series: points (epoch, y) by name.
        alt: the text alternative.
    """
    figure, axes = chart(title, "epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    for number, (name, points) in enumerate(series.items()):
        axes.plot(*zip(*points), marker="o", markersize=2.5, label=as_shown(name), **line_style(number))
    if len(series) > 1:
        add_legend(figure, loc="outside right upper", fontsize=8)
    return picture(figure, alt)


def precision_recall(curves: dict[str, list[float | None]], alt: str) -> Picture:
    """Return precision against recall of each class at IoU 0.5.

    Args:
        curves: precision at evenly spaced recalls from 0 to 1, by class.
        alt: the text alternative.
    """
    figure, axes = chart("precision against recall, IoU 0.5", "recall")
    for number, (name, values) in enumerate(curves.items()):
        axes.plot(np.linspace(0, 1, len(values)), values, label=as_shown(name), **line_style(number))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="precision")
    add_legend(axes, fontsize=9)
    return picture(figure, alt)


def bars(title: str, values: dict[str, float], alt: str, unit: str) -> Picture:
    """Return a chart of horizontal bars, the first on top."""
    figure, axes = chart(title, unit, 0.9 + 0.32 * len(values), grid="x")
    drawn = axes.barh(range(len(values)), list(values.values()), 0.8, color=COLOURS[0])
    axes.bar_label(drawn, fmt="%.1f", fontsize=8, padding=2)
    axes.set_yticks(range(len(values)), [as_shown(name) for name in values], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    return picture(figure, alt)


def alphas(level: str, kind: str, rows: list[dict], best: int) -> Picture:
    """Return the relaxed weights of one level over the epochs: a panel per step, a line per alternative.

    Args:
        level: name of the level.
        kind: "ops" or "edges" of alphas.jsonl.
        rows: rows of alphas.jsonl.
        best: the epoch with the best metric on val, marked by a dotted line.
    """
    epochs, weights = [row["epoch"] for row in rows], [row["levels"][level][kind] for row in rows]
    figure, axes = new_figure(SIZE[0], 2.1 * len(weights[-1]) + 0.5, "constrained"), None
    ends = []
    for place, (step, last) in enumerate(weights[-1].items(), 1):
        axes = figure.add_subplot(len(weights[-1]), 1, place, sharex=axes)
        tidy(axes)
        strongest, colours = max(last, key=last.get), modality_colours(last)
        for number, name in enumerate(last):
            style = line_style(number) | {"linewidth": 2.2 if name == strongest else 1}
            style["color"] = colours.get(name.partition("/")[0], style["color"])
            label = as_shown(name) if kind == "ops" or name == strongest else None
            axes.plot(epochs, [of_epoch[step][name] for of_epoch in weights], label=label, **style)
        axes.axvline(best, color="#777777", linestyle=":", linewidth=1)
        axes.set_title(f"{step}: {as_shown(strongest)}", fontsize=9, loc="left", parse_math=False)
        add_legend(axes, fontsize=7, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))
        ends.append(f"{step}: {strongest} {last[strongest]:.2f}")
    tidy(axes, "epoch")
    what = {"ops": "Weights of the operations", "edges": "Weights of the inputs"}[kind]
    alt = f"{what} of {level} over the epochs. At the end {', '.join(ends)}"
    return picture(figure, alt, f"{level}: {what.lower()}")
