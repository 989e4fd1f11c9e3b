"""Pictures of runs as PNG: curves over epochs, and a gallery of detections on the images of both sensors.

Uses the object-oriented API of matplotlib, which has no global state.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from datasets.detection.dataset import DetectionRecord, load_images
from datasets.detection.sources import CHANNELS
from engine.progress import metric_of
from report.formatting import as_shown
from report.metrics import ENTROPIES, phases, read_metrics
from utils.box_matching import Matched, match
from utils.errors import UserError

# The palette of Okabe and Ito, which colour-blind readers can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
# Bright, since they are drawn on images.
BOX_COLOURS = ("#FFB000", "#00E0B0", "#FF7AD9", "#6FC3FF", "#F0E442", "#FFFFFF")
STYLES = ("-", "--", ":", "-.")
DPI = 110
NUM_PAIRS = 8  # of a gallery, at most
MIN_SCORE = 0.3  # detections below are neither shown nor counted


def plot_curves(runs: dict[str, Path], path: str | Path) -> Path:
    """Write a PNG of loss and metric on val over epochs and, for searches, the entropy of the relaxed weights.

    Args:
        runs: run folders by label, at least one; each phase of a pretraining gets a curve.
        path: the picture to write; its folder must exist.

    Raises:
        UserError: a run has no readable metrics.jsonl.
    """
    curves = {label: rows for name, run in runs.items() for label, rows in phases(name, read_metrics(run)).items()}
    panels = panels_of(curves)
    figure = new_figure(4.6 * len(panels) + 2.4, 4.2, "constrained")
    for place, draw in enumerate(panels, 1):
        draw(figure.add_subplot(1, len(panels), place))
    lines = {line.get_label(): line for axes in figure.axes[:2] for line in axes.get_lines()}
    add_legend(figure, lines.values(), lines, loc="outside right upper", fontsize=9)
    figure.savefig(path)
    return Path(path)


def panels_of(curves: dict[str, list[dict]]) -> list[Callable[[Axes], None]]:
    """Return a drawing function per panel: loss, metric on val and, for searches, entropy.

    Args:
        curves: rows of metrics.jsonl by label, as `phases` returns them.
    """
    styles = {label: line_style(number) for number, label in enumerate(curves)}
    searches = {label: rows for label, rows in curves.items() if any(key in rows[0] for key in ENTROPIES)}
    panels = [(_plot_losses, curves), (_plot_scores, curves)] + ([(_plot_entropies, searches)] if searches else [])
    return [partial(_over_epochs, draw, shown, styles) for draw, shown in panels]


def _over_epochs(draw: Callable, shown: dict, styles: dict, axes: Axes) -> None:
    tidy(axes, "epoch")
    draw(axes, shown, styles)


def line_style(number: int) -> dict[str, str]:
    """Return colour and line style of a line by its number; 32 of them differ."""
    return {"color": COLOURS[number % 8], "linestyle": STYLES[number // 8 % 4]}


def tidy(axes: Axes, counted: str = "", grid: str = "both") -> None:
    """Give axes a faint grid, and no lines at the top and right.

    Args:
        counted: label of the x axis if it counts something, such as epochs: its ticks are whole numbers.
        grid: x, y or both.
    """
    axes.grid(color="#E5E5E5", axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if counted:
        axes.set_xlabel(counted)
        axes.xaxis.get_major_locator().set_params(integer=True)


def _plot_losses(axes: Axes, curves: dict, styles: dict) -> None:
    axes.set(title="loss in training", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    for label, rows in curves.items():
        _plot(axes, rows, "train_loss", label=label, **styles[label])
        if "arch_loss" in rows[0]:
            words = f"{label}: on the logits' part".removeprefix(": ")
            _plot(axes, rows, "arch_loss", label=words, **styles[label] | {"linestyle": ":"})


def _plot_scores(axes: Axes, curves: dict, styles: dict) -> None:
    metrics = {label: metric_of(rows[0]) for label, rows in curves.items()}
    axes.set(title=f"{', '.join(dict.fromkeys(metrics.values()))} on val")
    for label, rows in curves.items():
        _plot(axes, rows, f"{metrics[label]}_val", label=label, **styles[label])


def _plot_entropies(axes: Axes, curves: dict, styles: dict) -> None:
    axes.set(title="entropy of the search's weights, nats")
    for label, rows in curves.items():
        for (key, name), style in zip(ENTROPIES.items(), STYLES):
            words = name if len(curves) == 1 else f"{label}: {name}"
            _plot(axes, rows, key, label=words, **styles[label] | {"linestyle": style})
    add_legend(axes, fontsize=9)


def add_legend(owner: Axes | Figure, *content: Iterable, **options) -> None:
    """Add a legend without a frame. Its names are shown literally: matplotlib reads text between two $ as a formula."""
    for text in owner.legend(*content, frameon=False, **options).get_texts():
        text.set_parse_math(False)


def _plot(axes: Axes, rows: list[dict], key: str, **style) -> None:
    values = [np.nan if row.get(key) is None else row[key] for row in rows]
    axes.plot([row["epoch"] for row in rows], values, marker="o", markersize=3, **style)


class View(NamedTuple):
    """A column of the gallery.

    Args:
        title: shown above the column.
        modality: whose images are shown.
        method: name of the method; several views may show one.
        detections: COCO list of the method, as in detections.json.
    """

    title: str
    modality: str
    method: str
    detections: list[dict]


def draw_detections(
    records: list[DetectionRecord], ground_truth: dict, views: list[View], path: Path, view_width: int = 384
) -> Path:
    """Write a gallery: one row per pair, one column per view, with objects, detections, misses and false alarms.

    It shows the pairs on which the methods differ most in objects found minus false alarms: one per scene if images
    have a scene, else those with the largest difference; `NUM_PAIRS` at most.

    Args:
        records: the pairs to choose from.
        ground_truth: COCO dict of their annotations.
        views: the columns.
        path: the PNG to write; its folder must exist.
        view_width: width of each image in the gallery, in pixels.

    Raises:
        UserError: there is no pair or no view, or a detection is on an image that the ground truth does not list.
    """
    if not records or not views:
        raise UserError(f"gallery: expected pairs and views, found {len(records)} pairs and {len(views)} views")
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    scenes = {image["id"]: image.get("scene") for image in ground_truth["images"]}
    by_method = {view.method: match_all(ground_truth, view.detections) for view in views}
    chosen = _choose(records, scenes, by_method)[:NUM_PAIRS]
    width, height = view_width / DPI, max(r.height / r.width for r in chosen) * view_width / DPI
    caption, head = 0.24, 0.95
    figure = new_figure(len(views) * (width + 0.06) + 0.3, len(chosen) * (height + caption) + head)
    grid = figure.add_gridspec(len(chosen), len(views), left=0.3 / figure.get_figwidth(), right=0.999)
    grid.update(top=1 - head / figure.get_figheight(), bottom=0.003, hspace=caption / height, wspace=0.06 / width)
    for row, record in enumerate(chosen):
        images = load_images(record, CHANNELS)
        images = {m: image.expand(3, -1, -1).permute(1, 2, 0).numpy() for m, image in images.items()}
        for column, view in enumerate(views):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(images[view.modality], interpolation="bicubic")
            axes.set(xticks=[], yticks=[], xlim=(-0.5, record.width - 0.5), ylim=(record.height - 0.5, -0.5))
            matched = by_method[view.method][record.image_id]
            draw_boxes(axes, matched, names)
            _caption(axes, matched, view.title if row == 0 else "", scenes.get(record.image_id), column == 0)
    _legend(figure, names, 6 if len(views) > 1 else 3)
    figure.savefig(path)
    return path


def match_all(ground_truth: dict, detections: list[dict]) -> dict[object, Matched]:
    """Match detections of at least `MIN_SCORE` to objects; returns the matches by image."""
    truth, found = ({image["id"]: [] for image in ground_truth["images"]} for _ in range(2))
    for item in ground_truth["annotations"]:
        truth[item["image_id"]].append(item)
    for item in detections:
        if item["image_id"] not in found:
            raise UserError(f"gallery: expected detections on the annotated images, found image {item['image_id']!r}")
        if item["score"] >= MIN_SCORE:
            found[item["image_id"]].append(item)
    return {image: match(truth[image], found[image]) for image in truth}


def _choose(records: list[DetectionRecord], scenes: dict, by_method: dict[str, dict]) -> list[DetectionRecord]:
    """Rank pairs by how much methods differ, of equal ones by objects; if images have scenes, the first of each."""

    def difference(record: DetectionRecord) -> tuple[int, int]:
        matched = [of[record.image_id] for of in by_method.values()]
        return max(m.score for m in matched) - min(m.score for m in matched), len(matched[0].truth)

    ranked = sorted(records, key=difference, reverse=True)  # a reversed sort is stable, too
    if not any(scenes.get(r.image_id) for r in records):
        return ranked
    first: dict = {}
    for record in ranked:
        first.setdefault(scenes.get(record.image_id), record)
    return sorted(first.values(), key=lambda r: str(scenes.get(r.image_id)))


def draw_boxes(axes: Axes, matched: Matched, names: dict[int, str]) -> None:
    """Draw boxes: objects thin and white, missed ones dashed red; detections in class colours, false ones dotted."""
    for item, found in zip(matched.truth, matched.found):
        style = ("white", "-", 0.8) if found else ("#FF3030", (0, (4, 2)), 1.8)
        _rectangle(axes, item["bbox"], *style)
    for item, right in zip(matched.detections, matched.right):
        colour = BOX_COLOURS[list(names).index(item["category_id"]) % len(BOX_COLOURS)]
        _rectangle(axes, item["bbox"], colour, "-" if right else ":", 1.6)
        x, y = item["bbox"][0], max(item["bbox"][1], 5)
        box = {"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        axes.text(x, y, f"{item['score']:.2f}", size=5.5, color="black", va="bottom", bbox=box, clip_on=True)


def _rectangle(axes: Axes, bbox: list[float], colour: str, style, width: float) -> None:
    axes.add_patch(Rectangle(bbox[:2], *bbox[2:], fill=False, edgecolor=colour, linestyle=style, linewidth=width))


def _caption(axes: Axes, matched: Matched, title: str, scene: str | None, first: bool) -> None:
    false = matched.right.count(False)
    text = f"{sum(matched.found)} of {len(matched.found)} found" + (f", {false} false" if false else "")
    axes.set_title(text, fontsize=8, pad=2.5)
    bold = {"weight": "bold", "parse_math": False}
    if title:
        above = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center"}
        axes.annotate(as_shown(title), (0.5, 1), (0, 16), size=10, **above, **bold)
    if first and scene:
        axes.set_ylabel(as_shown(scene), fontsize=9, labelpad=3, **bold)


def _legend(figure: Figure, names: dict[int, str], columns: int) -> None:
    """Draw the legend of box styles at the top."""
    kinds = {"object": ("#999999", "-"), "missed object": ("#FF3030", "--")}
    kinds |= {as_shown(name): (BOX_COLOURS[i % len(BOX_COLOURS)], "-") for i, name in enumerate(names.values())}
    kinds |= {"false alarm": ("#444444", ":")}
    lines = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=c, linestyle=s, linewidth=1.8) for c, s in kinds.values()]
    add_legend(figure, lines, list(kinds), loc="upper left", ncols=columns, fontsize=10, borderpad=0.2)
    title = f"score at least {MIN_SCORE:g}; per row the pair on which the methods differ most"
    figure.text(0.06 / figure.get_figwidth(), 1 - 0.42 / figure.get_figheight(), title, size=10, va="center")


def new_figure(width: float, height: float, layout: str | None = None) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)
