"""The gallery of a report: pairs with ground truth and detections, those with the most missed objects first."""

import base64
import io

from markupsafe import Markup
from matplotlib.figure import Figure
from torch import Tensor

from datasets.detection.dataset import DetectionRecord, load_images
from report.page import Gallery, Photo
from report.plots import BOX_COLOURS, NUM_PAIRS, draw_boxes, match_all
from report.run import Run
from utils.box_matching import Matched

WIDTH, DPI = 360, 100  # of a picture: pixels, and pixels per inch
QUALITY = 78  # of JPEG
VIEWS = {"thermal": ("thermal", "Thermal picture"), "rgb": ("RGB", "RGB picture")}  # title and text alternative


def gallery(run: Run, part: str) -> Gallery:
    """Return each modality, ground truth and detections of the pairs of a part with the most missed objects.

    Args:
        run: with its data.
    """
    ground_truth = run.data_module.data.ground_truth[run.data_module.list_of(part)]
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    matched = match_all(ground_truth, run.detections)
    scenes = {image["id"]: image.get("scene") for image in ground_truth["images"]}
    worst = sorted(run.records(part), key=lambda r: _misses(matched[r.image_id]), reverse=True)[:NUM_PAIRS]
    rows = [_row(record, run, matched[record.image_id], names, scenes.get(record.image_id)) for record in worst]
    legend = [("found", "", "object that was found"), ("missed", "", "object that was missed")]
    legend += [("right", BOX_COLOURS[n % len(BOX_COLOURS)], f"{name} found") for n, name in enumerate(names.values())]
    return Gallery(rows, [*legend, ("false", "", "false alarm")])


def _misses(matched: Matched) -> tuple[int, int]:
    return matched.found.count(False), matched.right.count(False)


def _row(
    record: DetectionRecord, run: Run, matched: Matched, names: dict[int, str], scene: str | None
) -> tuple[str, list[Photo]]:
    data = run.data_module.data
    images = load_images(record, data.channels, data.thermal_counts)
    missed, false = _misses(matched)
    words = f"{record.image_id}{f', {scene}' if scene else ''}: {sum(matched.found)} of {len(matched.found)} found"
    words += f", {false} false alarm{'s' * (false != 1)}" if false else ""
    truth = Matched(matched.truth, matched.found, [], [])
    found = Matched([], [], matched.detections, matched.right)
    objects, answers = (_class_counts(items, names) for items in (matched.truth, matched.detections))
    views = [(VIEWS[m][0], m, None, f"{VIEWS[m][1]} of pair {record.image_id}") for m in VIEWS if m in images]
    views += [("ground truth", run.sensor, truth, f"{objects or 'no object'}; {missed} missed")]
    views += [("found", run.sensor, found, f"{answers or 'nothing'} found; {false} of it wrong")]
    return words, [Photo(_address(images[m], boxes, names), alt, title) for title, m, boxes, alt in views]


def _class_counts(items: list[dict], names: dict[int, str]) -> str:
    """Return the number of objects per class: "2 person, 1 car"."""
    counts = {name: sum(item["category_id"] == number for item in items) for number, name in names.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _address(image: Tensor, boxes: Matched | None, names: dict[int, str]) -> Markup:
    """Return an image (1 or 3, h, w) with boxes as the data URL of a JPEG."""
    _, height, width = image.shape
    figure = Figure(figsize=(WIDTH / DPI, WIDTH / DPI * height / width), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="bicubic", aspect="auto")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.axis("off")
    if boxes is not None:
        draw_boxes(axes, boxes, names)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": QUALITY})
    return Markup("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())
