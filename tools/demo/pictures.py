"""The demo's pictures: genotype, curves over epochs, and detections on which single sensors and fusion differ."""

import json
from pathlib import Path

from datasets.detection.detection_data import DetectionData
from models.search.parts import draw_architecture, read_any
from report.plots import View, draw_detections, plot_curves
from tools.demo.jobs import methods_needed, searched_in, tested_in, trained_in
from tools.demo.options import Options
from tools.demo.summary import best_of
from tools.demo.tasks import BOX_FUSIONS, SINGLE
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
        shown = gallery_methods(options, summary, methods)
        views = [view for method in shown for view in views_of(options, method, done)]
        draw_detections(pairs.records["test"], pairs.ground_truth["test"], views, out / "detections.png")


def gallery_methods(options: Options, summary: dict, methods: tuple[str, ...]) -> list[str]:
    """Return the single sensors, or plain towers, and the searched network, or the best hand-made one."""
    best = "searched" if "searched" in methods else best_of(summary["rows"], options.demo.hand_made)
    return [m for m in (*(options.demo.single or options.demo.hand_made[:1]), best) if m in methods]


def views_of(options: Options, method: str, done: Finished) -> list[View]:
    """Return the columns of a method: a single sensor on its own images, a fusion on both."""
    detections = json.loads((tested_in(done, method) / "detections.json").read_text(encoding="utf-8"))
    if camera := options.demo.camera:
        return [View(method, camera, method, detections)]
    if method in SINGLE:
        return [View(f"{TITLES[method]} alone", method, method, detections)]
    return [View(f"{method}, on {TITLES[sensor]}", sensor, method, detections) for sensor in SINGLE]
