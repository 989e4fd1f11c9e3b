"""One set of pairs in all forms that are read: the same tensors, boxes, labels and split come out of each."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.dataset import load_images
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data, open_data_set
from datasets.detection.sources import CHANNELS
from tests.tiny_data import draw_lists, make_tiny_flir
from tests.tiny_sets import FLIR_FORMS, FORMS, NUMBERS, OTHER_FORMS, corners, voc_text, write_list

IMAGES, LOADING = ImageOptions((64, 80), 0.5, (0.8, 1.2), 0.1), LoaderOptions(batch_size=2)
CLASSES = {"llvip": ("person",), "own": ("person", "car")}
MAX_INDEX_SECONDS = 5


@pytest.fixture(scope="module")
def plain_parts(tmp_path_factory) -> DataModule:
    return open_tiny(make_tiny_flir(tmp_path_factory.mktemp("layout_2")), "flir_aligned")


def open_tiny(folder: Path, dataset: str) -> DataModule:
    return open_data(str(folder), dataset.format(folder), IMAGES, LOADING)


def check_same_batches(one: DataModule, other: DataModule, part: str, train: bool) -> None:
    for a, b in zip(one.loader(part, train=train), other.loader(part, train=train), strict=True):
        for modality in ("rgb", "thermal"):
            assert torch.equal(a["images"][modality], b["images"][modality])
        for key in ("boxes_xyxy", "labels"):
            assert all(torch.equal(x, y) for x, y in zip(a[key], b[key], strict=True))


@pytest.mark.parametrize("form", FLIR_FORMS)
def test_forms_of_flir_are_the_same_to_the_tensor(tmp_path, plain_parts, form):
    make, dataset = FLIR_FORMS[form]
    parts = open_tiny(make(tmp_path), dataset)
    assert parts.split.hash == plain_parts.split.hash
    for part in ("train", "arch", "val", "test"):
        names = [record.file_name for record in parts.records(part)]
        assert names == [record.file_name for record in plain_parts.records(part)]
        check_same_batches(parts, plain_parts, part, train=part == "train")


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_sets_give_what_was_drawn(tmp_path, form):
    make, dataset = OTHER_FORMS[form]
    data = open_data_set(make(tmp_path), dataset.format(tmp_path))
    known = CLASSES.get(form.partition(",")[0])
    drawn = draw_lists(NUMBERS, **({"classes": known} if known else {}))
    names = {"person": "people", "bike": "motorcycle"} if form == "m3fd" else {}
    for origin, pairs in drawn.items():
        for record, pair in zip(data.records[origin], pairs, strict=True):
            assert Path(record.file_name).stem == f"{pair.number:06d}"
            drawn_boxes = np.float32([corners(bbox) for _, bbox in pair.objects]).reshape(-1, 4)
            np.testing.assert_array_equal(record.boxes_xyxy, drawn_boxes)
            assert [data.classes[k] for k in record.labels] == [names.get(name, name) for name, _ in pair.objects]
            rgb, thermal = load_images(record, CHANNELS).values()
            assert (rgb.int() - pair.images["rgb"].int()).abs().float().mean() < 20  # JPEG blurs noise of 20..60
            assert (thermal.int() - pair.images["thermal"].int()).abs().float().mean() < 4


@pytest.mark.parametrize("form", FORMS)
def test_counts_and_split(tmp_path, form):
    make, dataset = FORMS[form]
    parts = open_tiny(make(tmp_path), dataset)
    data = parts.data
    assert {origin: len(records) for origin, records in data.records.items()} == NUMBERS
    for origin, records in data.records.items():
        boxes = sum(len(record.labels) for record in records)
        assert data.notes[origin]["boxes"] == boxes == len(data.ground_truth[origin]["annotations"]) > 0
        assert {record.image_id for record in records} == {i["id"] for i in data.ground_truth[origin]["images"]}
    assert not [remark for remark in data.warnings if ": no box of " not in remark]
    assert sum(len(names) for names in parts.split.parts.values()) == NUMBERS["train"]


@pytest.fixture
def real_data() -> Path:
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with flir_aligned_mini and flir_aligned_meta")
    return Path(os.environ["NAS_DSF_DATA"])


def as_layout_1(mini: Path, folder: Path) -> Path:
    for split, word in (("train", "train"), ("test", "val")):
        for modality in ("thermal", "rgb"):
            place = folder / f"images_{modality}_{word}"
            place.mkdir(parents=True)
            (place / "data").symlink_to(mini / f"images_{modality}_{split}" / "data")
        shutil.copy(mini / f"meta/thermal/flir_{split}.json", folder / f"images_thermal_{word}" / "flir.json")
    return folder


def as_layout_3(mini: Path, folder: Path) -> Path:
    (folder / "JPEGImages").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for path in mini.glob("images_*/data/*"):
        (folder / "JPEGImages" / path.name).symlink_to(path)
    for split, word in (("train", "train"), ("test", "validation")):
        content = json.loads((mini / f"meta/thermal/flir_{split}.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        for image in content["images"]:
            boxes = [b for b in content["annotations"] if b["image_id"] == image["id"]]
            objects = [(names[box["category_id"]], corners(box["bbox"])) for box in boxes]
            xml = folder / "Annotations" / f"{Path(image['file_name']).stem}.xml"
            xml.write_text(voc_text("copied.jpg", (image["height"], image["width"]), objects))
        write_list(folder / f"align_{word}.txt", [Path(image["file_name"]).stem for image in content["images"]])
    return folder


@pytest.mark.parametrize("rewrite", [as_layout_1, as_layout_3])
def test_real_pairs_are_the_same_in_other_layouts(tmp_path, real_data, rewrite):
    mini = real_data / "flir_aligned_mini"
    one, other = open_tiny(mini, "flir_aligned"), open_tiny(rewrite(mini, tmp_path / "set"), "flir_aligned")
    assert one.split == other.split
    for origin, records in one.data.records.items():
        for a, b in zip(records, other.data.records[origin], strict=True):
            assert (a.file_name, a.width, a.height) == (b.file_name, b.width, b.height)
            np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
            np.testing.assert_array_equal(a.labels, b.labels)
        for a, b in list(zip(records, other.data.records[origin]))[::20]:
            assert all(
                torch.equal(x, y)
                for x, y in zip(load_images(a, CHANNELS).values(), load_images(b, CHANNELS).values(), strict=True)
            )


def test_the_whole_set_is_indexed_in_time(tmp_path, real_data):
    shutil.copytree(real_data / "flir_aligned_meta", tmp_path / "meta")
    for split in ("train", "test"):
        folders = [tmp_path / f"images_{modality}_{split}" / "data" for modality in ("thermal", "rgb")]
        for folder in folders:
            folder.mkdir(parents=True)
        for image in json.loads((tmp_path / f"meta/thermal/flir_{split}.json").read_text())["images"]:
            (folders[0] / image["file_name"]).touch()
            (folders[1] / image["file_name"].replace("PreviewData", "RGB")).touch()
    begin = time.perf_counter()
    data = open_data_set(tmp_path)
    seconds = time.perf_counter() - begin
    counts = {origin: (note["images"], note["boxes"]) for origin, note in data.notes.items()}
    assert counts == {"train": (4128, 32161), "test": (1013, 8591)}
    assert {origin: len(records) for origin, records in data.records.items()} == {"train": 4128, "test": 1013}
    assert seconds < MAX_INDEX_SECONDS
