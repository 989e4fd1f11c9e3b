"""The picture of robustness.json: AP against severity, a panel per corruption, and bars for dead sensors and shifts."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from datasets.detection.corruptions import DEAD_KINDS, GRADED, WORST
from datasets.detection.sources import spelled
from report.plots import COLOURS, add_legend, new_figure, tidy
from utils.errors import printable

LINES = {"thermal": (COLOURS[1], "o"), "rgb": (COLOURS[0], "s"), "both": (COLOURS[6], "^")}  # colour, marker
COLUMNS = 5
WIDTH, HEIGHT = 2.3, 2.2  # of a panel, in inches
EDGE = 0.9  # space above and below the panels, in inches


def draw(facts: dict[str, object], rows: list[dict]) -> Figure:
    """Return the picture of the rows of robustness.json.

    Args:
        facts: the title names its "method" and "part".
        rows: the clean test, then the others.
    """
    clean, *others = rows
    panels = panels_of(others)
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(max(columns * WIDTH, 4.6), lines * HEIGHT + EDGE, "constrained")
    top = max([row["AP"] for row in rows if row["AP"] is not None], default=0) or 1
    for place, (title, fill, panel_rows) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, place + 1)
        tidy(axes, grid="y")
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 1.08 * top)
        axes.tick_params(labelsize=8, labelleft=place % columns == 0)
        if place % columns == 0:
            axes.set_ylabel("AP", fontsize=9)
        axes.axhline(_number(clean), color="#777777", linestyle="--", linewidth=1)
        fill(axes, panel_rows, clean)
    _legend(figure, _by_sensor(others))
    title = f"{printable(str(facts['method']))}, {facts['part']} pairs: which sensor suffers what"
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def panels_of(rows: list[dict]) -> list[tuple[str, Callable[[Axes, list[dict], dict], None], list[dict]]]:
    """Return title, drawing function and rows of each panel: dead sensors, each graded corruption, shifts.

    Panels without rows are left out.
    """
    kinds = {"dead sensor": (_bars_of_kinds, DEAD_KINDS)}
    kinds |= {kind.replace("_", " "): (_lines, (kind,)) for kind in GRADED} | {"shift": (_bars_of_shifts, ("shift",))}
    panels = [(title, fill, [r for r in rows if r["kind"] in names]) for title, (fill, names) in kinds.items()]
    return [panel for panel in panels if panel[2]]


def _by_sensor(rows: list[dict]) -> dict[str, list[dict]]:
    by_sensor = {sensor: [row for row in rows if row["sensor"] == sensor] for sensor in LINES}
    return {sensor: listed for sensor, listed in by_sensor.items() if listed}


def _lines(axes: Axes, rows: list[dict], clean: dict) -> None:
    """Draw a line per sensor; the clean test is severity 0."""
    for sensor, of_sensor in _by_sensor(rows).items():
        colour, marker = LINES[sensor]
        places = [0, *(row["severity"] for row in of_sensor)]
        values = [_number(row) for row in (clean, *of_sensor)]
        axes.plot(places, values, color=colour, marker=marker, markersize=3.5, linewidth=1.4, clip_on=False)
    axes.set_xticks(range(WORST + 1))
    axes.set_xlim(-0.2, WORST + 0.2)
    axes.set_xlabel("severity", fontsize=8, labelpad=1)


def _bars_of_kinds(axes: Axes, rows: list[dict], clean: dict) -> None:
    _bars(axes, rows, "kind", DEAD_KINDS.index)


def _bars_of_shifts(axes: Axes, rows: list[dict], clean: dict) -> None:
    _bars(axes, rows, "severity", int)
    axes.set_xlabel("px, RGB against thermal", fontsize=8, labelpad=1)


def _bars(axes: Axes, rows: list[dict], field: str, order: Callable[[Any], int]) -> None:
    """Draw a group of bars per value of a field, sorted by `order`, with a bar per sensor."""
    values, by_sensor = sorted({row[field] for row in rows}, key=order), _by_sensor(rows)
    width = 0.7 / len(by_sensor)
    for number, (sensor, of_sensor) in enumerate(by_sensor.items()):
        offset = (number - (len(by_sensor) - 1) / 2) * width
        places = [values.index(row[field]) + offset for row in of_sensor]
        axes.bar(places, [_number(row) for row in of_sensor], width, color=LINES[sensor][0])
    axes.set_xticks(range(len(values)), [str(value).replace("_", "\n") for value in values])
    margin = max(0.6, 1.5 - len(values) / 2)  # a single group gets the width of one of three
    axes.set_xlim(-margin, len(values) - 1 + margin)


def _legend(figure: Figure, sensors: Iterable[str]) -> None:
    handles = [Line2D([], [], color="#777777", linestyle="--", linewidth=1)]
    handles += [Line2D([], [], color=LINES[s][0], marker=LINES[s][1], markersize=4, linewidth=1.6) for s in sensors]
    names = ["clean", *map(spelled, sensors)]
    add_legend(figure, handles, names, loc="outside lower center", ncols=len(names), fontsize=9)


def _number(row: dict) -> float:
    return np.nan if row["AP"] is None else row["AP"]
