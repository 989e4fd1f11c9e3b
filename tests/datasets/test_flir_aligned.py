"""FLIR-Aligned: recognising the layout, pairing names, and the real files where NAS_DSF_DATA names their folder."""

import json
import os
import time
from pathlib import Path

import pytest

from datasets.coco_json import parse_coco
from datasets.flir_aligned import ALIASES, CLASSES, open_flir_aligned
from datasets.paired_detection import load_pair
from tests.tiny_data import make_tiny_flir
from utils.errors import UserError


@pytest.mark.parametrize("string_ids", [True, False])
def test_tiny_set(tmp_path, string_ids):
    data = open_flir_aligned(make_tiny_flir(tmp_path, string_ids=string_ids))
    assert (data.classes, data.category_ids) == (["person", "bike", "car"], [1, 2, 3])
    assert {split: len(records) for split, records in data.records.items()} == {"train": 12, "test": 4}
    first = data.records["train"][0]
    assert first.image_id == ("FLIR_00001_PreviewData" if string_ids else 1)
    assert Path(first.rgb_path).name == "FLIR_00001_RGB.jpg"
    assert Path(first.thermal_path).name == "FLIR_00001_PreviewData.jpeg"
    assert data.records["train"][4].boxes_xyxy.shape == (0, 4)
    assert data.notes["train"]["boxes"] == sum(len(r.labels) for r in data.records["train"]) > 0


def test_nothing_is_written(tmp_path):
    make_tiny_flir(tmp_path)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    open_flir_aligned(tmp_path)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_other_suffixes_are_found(tmp_path):
    make_tiny_flir(tmp_path)
    folder = tmp_path / "images_thermal_test" / "data"
    (folder / "FLIR_00013_PreviewData.jpeg").rename(folder / "FLIR_00013_PreviewData.JPG")
    assert open_flir_aligned(tmp_path).records["test"][0].thermal_path.endswith("FLIR_00013_PreviewData.JPG")


@pytest.mark.parametrize(
    ("modality", "name"), [("rgb", "FLIR_00013_RGB"), ("thermal", "FLIR_00013_PreviewData")], ids=["rgb", "thermal"]
)
def test_missing_images_of_one_modality_are_named(tmp_path, modality, name):
    make_tiny_flir(tmp_path)
    folder = tmp_path / f"images_{modality}_test" / "data"
    for path in folder.glob("*0001[34]*"):
        path.unlink()
    with pytest.raises(UserError, match=rf"{folder}.*{name}.*found none; 1 more"):
        open_flir_aligned(tmp_path)


def test_missing_image_folder(tmp_path):
    make_tiny_flir(tmp_path, num_test=1)
    folder = tmp_path / "images_rgb_test"
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{folder}.*RGB images"):
        open_flir_aligned(tmp_path)


def test_other_layouts_are_refused(tmp_path):
    with pytest.raises(UserError, match="empty folder"):
        open_flir_aligned(tmp_path)
    (tmp_path / "align_train.txt").touch()
    with pytest.raises(UserError, match=r"flir_train\.json and .*flir_test\.json.*found align_train\.txt"):
        open_flir_aligned(tmp_path)
    with pytest.raises(UserError, match=r"none_here.*No such file"):
        open_flir_aligned(tmp_path / "none_here")


def test_splits_with_other_category_ids_are_refused(tmp_path):
    make_tiny_flir(tmp_path)
    path = tmp_path / "meta" / "thermal" / "flir_test.json"
    data = json.loads(path.read_text())
    data["categories"] = [{"id": i, "name": name} for i, name in enumerate(["car", "person", "bike"], 1)]
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"flir_test\.json: categories: .*'person': 1.*found.*'person': 2"):
        open_flir_aligned(tmp_path)


@pytest.fixture
def real_data() -> Path:
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with flir_aligned_mini and flir_aligned_meta")
    return Path(os.environ["NAS_DSF_DATA"])


def test_real_pairs(real_data):
    data = open_flir_aligned(real_data / "flir_aligned_mini")
    counts = {split: (note["images"], note["boxes"]) for split, note in data.notes.items()}
    assert counts == {"train": (100, 726), "test": (41, 294)}
    for records in data.records.values():
        rgb, thermal = load_pair(records[0])
        assert (len(rgb), len(thermal)) == (3, 1)


REAL_COUNTS = [("test", 1013, 8591, 277), ("train", 4128, 32161, 1086)]


@pytest.mark.parametrize(("split", "images", "boxes", "clipped"), REAL_COUNTS)
def test_real_boxes(real_data, split, images, boxes, clipped):
    path = real_data / "flir_aligned_meta" / "thermal" / f"flir_{split}.json"
    begin = time.perf_counter()
    notes = parse_coco(path, CLASSES, ALIASES).notes
    assert (notes["images"], notes["boxes"], notes["clipped"]) == (images, boxes, clipped)
    assert time.perf_counter() - begin < 4  # seconds; two splits and the folders in 5
