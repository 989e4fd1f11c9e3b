"""The demo's pictures: genotype, curves over epochs, and detections on which single sensors and fusion differ."""

import json
from pathlib import Path

from datasets.detection.detection_data import DetectionData
from models.search.parts import draw_architecture, read_any
from report.plots import View, draw_detections, plot_curves
from tools.demo.jobs import methods_needed, searched_in, tested_in, trained_in
from tools.demo.options import Options
from tools.demo.summary import best_of
from tools.demo.tasks import BOX_FUSIONS, HAND_MADE, SINGLE
from tools.jobs import Finished

TITLES = {"thermal": "thermal", "rgb": "RGB"}


def draw_pictures(options: Options, pairs: DetectionData | None, summary: dict, done: Finished) -> None:
    """Write OUT/genotype.png and curves.png and, with the data of a detection task, detections.png."""
    out, methods = Path(options.out), methods_needed(options)
    if "search" in done:
        draw_architecture(read_any(Path(searched_in(done)) / "genotype.json"), out / "genotype.png")
    runs = {m: Path(trained_in(done, m)) for m in methods if m not in BOX_FUSIONS}
    searches = {"search": Path(searched_in(done))} if "search" in done else {}
    plot_curves(searches | runs, out / "curves.png")
    if pairs:
        views = [view for method in gallery_methods(summary, methods) for view in views_of(method, done)]
        draw_detections(pairs.records["test"], pairs.ground_truth["test"], views, out / "detections.png")


def gallery_methods(summary: dict, methods: tuple[str, ...]) -> list[str]:
    """Return the single sensors and the searched network, or the best hand-made fusion without a search."""
    fused = "searched" if "searched" in methods else best_of(summary["rows"], HAND_MADE)
    return [m for m in (*SINGLE, fused) if m in methods]


def views_of(method: str, done: Finished) -> list[View]:
    """Return the columns of a method: a single sensor on its own images, a fusion on both."""
    detections = json.loads((tested_in(done, method) / "detections.json").read_text(encoding="utf-8"))
    if method in SINGLE:
        return [View(f"{TITLES[method]} alone", method, method, detections)]
    return [View(f"{method}, on {TITLES[sensor]}", sensor, method, detections) for sensor in SINGLE]
