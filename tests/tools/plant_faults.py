"""Faults to plant into a copy of a FLIR-Aligned folder (layout 2), each on a pair of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.io import decode_image, write_jpeg

from datasets.detection.dataset import DetectionRecord


def edit(folder: Path, origin: str, change: Callable[[dict], None]) -> None:
    """Change the annotation file of a list in place."""
    path = folder / f"meta/thermal/flir_{origin}.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def missing_rgb(folder: Path, record: DetectionRecord) -> None:
    Path(record.paths["rgb"]).unlink()


def truncated_thermal(folder: Path, record: DetectionRecord) -> None:
    path = Path(record.paths["thermal"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_rgb(folder: Path, record: DetectionRecord) -> None:
    Path(record.paths["rgb"]).write_bytes(b"")


def text_as_thermal(folder: Path, record: DetectionRecord) -> None:
    Path(record.paths["thermal"]).write_text("no image at all")


def rgb_of_another_size(folder: Path, record: DetectionRecord) -> None:
    write_jpeg(decode_image(record.paths["rgb"])[:, :-8, :-8].contiguous(), record.paths["rgb"])


def both_of_another_size(folder: Path, record: DetectionRecord) -> None:
    for path in (record.paths["rgb"], record.paths["thermal"]):
        write_jpeg(decode_image(path)[:, :-8].contiguous(), path)


def thermal_in_colours(folder: Path, record: DetectionRecord) -> None:
    grey = decode_image(record.paths["thermal"])
    write_jpeg(torch.cat([grey, 255 - grey, grey]), record.paths["thermal"])


def rgb_is_thermal(folder: Path, record: DetectionRecord) -> None:
    shutil.copy(record.paths["thermal"], record.paths["rgb"])


def extra_rgb(folder: Path, record: DetectionRecord) -> None:
    Path(record.paths["rgb"]).with_name("FLIR_90001_RGB.jpg").write_bytes(Path(record.paths["rgb"]).read_bytes()[::-1])


def extra_thermal(folder: Path, record: DetectionRecord) -> None:
    shutil.copy(record.paths["thermal"], Path(record.paths["thermal"]).with_name("FLIR_90002_PreviewData.jpeg"))


def box_far_outside(folder: Path, record: DetectionRecord) -> None:
    add_box(folder, record.image_id, [record.width + 100, 0, 10, 10])


def unknown_category(folder: Path, record: DetectionRecord) -> None:
    add_box(folder, record.image_id, [1, 1, 10, 10], category=77)


def unknown_image(folder: Path, record: DetectionRecord) -> None:
    add_box(folder, "nowhere", [1, 1, 10, 10])


def image_without_width(folder: Path, record: DetectionRecord) -> None:
    edit(
        folder, "train", lambda data: [image.pop("width") for image in data["images"] if image["id"] == record.image_id]
    )


def add_box(folder: Path, image_id: str, bbox: list[int], category: int = 1) -> None:
    box = {"id": 10**6, "image_id": image_id, "category_id": category, "bbox": bbox, "area": 100, "iscrowd": 0}
    edit(folder, "train", lambda data: data["annotations"].append(box))


def twice_in_train(folder: Path, record: DetectionRecord) -> None:
    copy_pair(folder, record, "train", 90003)


def in_test_as_well(folder: Path, record: DetectionRecord) -> None:
    copy_pair(folder, record, "test", 90004)


def copy_pair(folder: Path, record: DetectionRecord, origin: str, number: int) -> None:
    """Copy a training pair, with a box, to a list under another number."""
    stem = f"FLIR_{number}_PreviewData"
    shutil.copy(record.paths["thermal"], folder / f"images_thermal_{origin}/data/{stem}.jpeg")
    shutil.copy(record.paths["rgb"], folder / f"images_rgb_{origin}/data/FLIR_{number}_RGB.jpg")
    image = {"id": stem, "file_name": f"{stem}.jpeg", "width": record.width, "height": record.height}
    box = {"id": number, "image_id": stem, "category_id": 1, "bbox": [1, 1, 10, 10], "area": 100, "iscrowd": 0}

    def add(data: dict) -> None:
        data["images"].append(image)
        data["annotations"].append(box)

    edit(folder, origin, add)


ANNOTATIONS, UNREADABLE, SIZES = "annotations", "files that are no images", "sizes"
FAULTS = {  # each with the kind it must be found as
    missing_rgb: "missing images",
    truncated_thermal: UNREADABLE,
    empty_rgb: UNREADABLE,
    rgb_of_another_size: SIZES,
    box_far_outside: ANNOTATIONS,
    unknown_category: ANNOTATIONS,
    unknown_image: ANNOTATIONS,
    extra_rgb: "files without partner",
    twice_in_train: "pairs twice in a list",
    in_test_as_well: "pairs in two lists",
    text_as_thermal: UNREADABLE,
    both_of_another_size: SIZES,
    thermal_in_colours: "thermal files in colours or of unknown numbers",
    rgb_is_thermal: "one image as both of a pair",
    extra_thermal: "files without partner",
    image_without_width: ANNOTATIONS,
}
TEN = list(FAULTS)[:10]
