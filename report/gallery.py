"""The gallery of a report: pairs with ground truth and detections, those with the most missed objects first."""

import base64
import io
from collections.abc import Iterable

from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from datasets.data_module import DataModule
from datasets.detection.dataset import DetectionRecord, load_images
from datasets.detection.detection_data import DetectionData
from report.page import Gallery, Photo
from report.plots import BOX_COLOURS, draw_boxes, match_all
from utils.box_matching import Matched

NUM_PAIRS = 8
MIN_SCORE = 0.3  # detections below are neither shown nor counted
WIDTH, DPI = 360, 100  # of a picture: pixels, and pixels per inch
QUALITY = 78  # of JPEG
VIEWS = {"thermal": ("thermal", "Thermal picture"), "rgb": ("RGB", "RGB picture")}  # title and text alternative


def readable(parts: DataModule, part: str, skipped: Iterable[str] = ()) -> list[DetectionRecord]:
    """Return the records of a part, without those that the run skipped because a file was unreadable."""
    unreadable = {*skipped, *parts.bad_files.names}
    return [record for record in parts.records(part) if record.file_name not in unreadable]


def gallery(
    parts: DataModule, part: str, records: list[DetectionRecord], detections: list[dict], sensor: str
) -> Gallery:
    """Return each modality, ground truth and detections of the pairs with the most missed objects.

    Args:
        records: the readable records of the part.
        detections: COCO list, as in detections.json.
        sensor: the modality on whose image the boxes are drawn.
    """
    ground_truth = parts.data.ground_truth[parts.list_of(part)]
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    matched = match_all(ground_truth, detections, MIN_SCORE)
    scenes = {image["id"]: image.get("scene") for image in ground_truth["images"]}
    worst = sorted(records, key=lambda r: _misses(matched[r.image_id]), reverse=True)[:NUM_PAIRS]
    rows = [_row(r, parts.data, matched[r.image_id], names, scenes.get(r.image_id), sensor) for r in worst]
    legend = [("found", "", "object that was found"), ("missed", "", "object that was missed")]
    legend += [("right", BOX_COLOURS[n % len(BOX_COLOURS)], f"{name} found") for n, name in enumerate(names.values())]
    return Gallery(rows, [*legend, ("false", "", "false alarm")])


def _misses(matched: Matched) -> tuple[int, int]:
    return matched.found.count(False), matched.right.count(False)


def _row(
    record: DetectionRecord,
    data: DetectionData,
    matched: Matched,
    names: dict[int, str],
    scene: str | None,
    sensor: str,
) -> tuple[str, list[Photo]]:
    images = load_images(record, data.channels, data.thermal_counts)
    images = {modality: image.expand(3, -1, -1) for modality, image in images.items()}
    missed, false = _misses(matched)
    words = f"{record.image_id}{f', {scene}' if scene else ''}: {sum(matched.found)} of {len(matched.found)} found"
    words += f", {false} false alarm{'s' * (false != 1)}" if false else ""
    truth = Matched(matched.truth, matched.found, [], [])
    found = Matched([], [], matched.detections, matched.right)
    views = {}
    for modality, (title, alt) in VIEWS.items():
        if modality in images:
            views[title] = modality, None, f"{alt} of pair {record.image_id}"
    views |= {
        "ground truth": (sensor, truth, f"{_class_counts(matched.truth, names) or 'no object'}; {missed} missed"),
        "found": (sensor, found, f"{_class_counts(matched.detections, names) or 'nothing'} found; {false} of it wrong"),
    }
    photos = []
    for title, (modality, boxes, alt) in views.items():
        photos.append(Photo(_address(images[modality], boxes, names), alt, title))
    return words, photos


def _class_counts(items: list[dict], names: dict[int, str]) -> str:
    """Return the number of objects per class: "2 person, 1 car"."""
    counts = {name: sum(item["category_id"] == number for item in items) for number, name in names.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _address(image: Tensor, boxes: Matched | None, names: dict[int, str]) -> Markup:
    """Return an image (3, h, w) with boxes as the data URL of a JPEG."""
    _, height, width = image.shape
    figure = Figure(figsize=(WIDTH / DPI, WIDTH / DPI * height / width), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="bicubic", aspect="auto")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.axis("off")
    if boxes is not None:
        draw_boxes(axes, boxes, names)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": QUALITY})
    return Markup("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())
