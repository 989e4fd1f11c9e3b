"""FLIR-Aligned: recognising the layout, pairing names, and the real files where NAS_DSF_DATA names their folder."""

import json
import os
import time
from pathlib import Path

import pytest

from datasets.detection.coco_json import parse_coco
from datasets.detection.dataset import load_images
from datasets.detection.flir_aligned import ALIASES, CLASSES
from datasets.detection.opening import open_data_set
from datasets.detection.sources import CHANNELS
from tests.tiny_data import make_tiny_flir
from tests.tiny_sets import make_tiny_align, make_tiny_llvip, make_tiny_m3fd, make_tiny_subset
from utils.errors import UserError


@pytest.mark.parametrize("string_ids", [True, False])
def test_tiny_set(tmp_path, string_ids):
    data = open_data_set(make_tiny_flir(tmp_path, string_ids=string_ids))
    assert (data.classes, data.category_ids) == (["person", "bike", "car"], [1, 2, 3])
    assert {split: len(records) for split, records in data.records.items()} == {"train": 12, "test": 4}
    first = data.records["train"][0]
    assert first.image_id == ("FLIR_00001_PreviewData" if string_ids else 1)
    assert Path(first.paths["rgb"]).name == "FLIR_00001_RGB.jpg"
    assert Path(first.paths["thermal"]).name == "FLIR_00001_PreviewData.jpeg"
    assert data.records["train"][4].boxes_xyxy.shape == (0, 4)
    assert data.notes["train"]["boxes"] == sum(len(r.labels) for r in data.records["train"]) > 0


@pytest.mark.parametrize(
    ("layout", "note", "words"),
    [
        ("1", "1", {"train": "train", "test": "val"}),
        ("1 in three", "1 in three lists", {"train": "train_train", "val": "train_val", "test": "val"}),
        ("2", "2", {"train": "train", "test": "test"}),
    ],
)
def test_layouts(tmp_path, layout, note, words):
    data = open_data_set(make_tiny_flir(tmp_path, num_train=5, num_val=3, num_test=2, layout=layout))
    assert data.notes["train"]["layout"] == note
    sizes = {"train": 5, "val": 3, "test": 2}
    assert {origin: len(records) for origin, records in data.records.items()} == {o: sizes[o] for o in words}
    assert data.records.keys() == data.ground_truth.keys() == data.notes.keys() == data.info.keys()
    numbers = [record.file_name[5:10] for origin in words for record in data.records[origin]]
    assert numbers == [f"{i:05d}" for i in range(1, len(numbers) + 1)], "each list in its own file"
    for origin, word in words.items():
        for record in data.records[origin]:
            number = record.file_name[5:10]
            folders = tmp_path / f"images_rgb_{word}" / "data", tmp_path / f"images_thermal_{word}" / "data"
            assert Path(record.paths["rgb"]) == folders[0] / f"FLIR_{number}_RGB.jpg"
            assert Path(record.paths["thermal"]) == folders[1] / f"FLIR_{number}_PreviewData.jpeg"
            load_images(record, CHANNELS)


def test_two_lists_are_read_where_both_forms_of_layout_1_are(tmp_path):
    make_tiny_flir(tmp_path, num_train=9, num_val=3, layout="1 in three")
    make_tiny_flir(tmp_path, num_train=12, layout="1")
    data = open_data_set(tmp_path)
    assert {origin: len(records) for origin, records in data.records.items()} == {"train": 12, "test": 4}
    assert data.notes["train"]["layout"] == "1 (its three lists are there as well and are not read)"
    (tmp_path / "images_thermal_train" / "flir.json").unlink()
    assert {origin: len(r) for origin, r in open_data_set(tmp_path).records.items()}["val"] == 3


@pytest.mark.parametrize("layout", ["1", "1 in three"])
def test_two_layouts_in_one_folder_are_refused(tmp_path, layout):
    make_tiny_flir(tmp_path, layout=layout)
    make_tiny_flir(tmp_path, layout="2")
    with pytest.raises(UserError, match=r"one layout.*layout 1.*images_thermal_train.*layout 2: meta/thermal") as error:
        open_data_set(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layout", ["1", "1 in three", "2"])
def test_scenes_and_info_are_kept(tmp_path, layout):
    info = {"renderer": "drawn", "hash": "12ab"}
    data = open_data_set(make_tiny_flir(tmp_path, layout=layout, scenes=("day", "night"), info=info))
    assert data.info == {origin: info | {"list": origin} for origin in data.records}
    for truth in data.ground_truth.values():
        assert [image["scene"] for image in truth["images"]] == [
            ("day", "night")[int(image["file_name"][5:10]) % 2] for image in truth["images"]
        ]


def test_no_scenes_and_no_info(tmp_path):
    data = open_data_set(make_tiny_flir(tmp_path))
    assert data.info == {"train": {}, "test": {}}
    assert not any("scene" in image for truth in data.ground_truth.values() for image in truth["images"])


def test_nothing_is_written(tmp_path):
    make_tiny_flir(tmp_path)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    open_data_set(tmp_path)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_other_suffixes_are_found(tmp_path):
    make_tiny_flir(tmp_path)
    folder = tmp_path / "images_thermal_test" / "data"
    (folder / "FLIR_00013_PreviewData.jpeg").rename(folder / "FLIR_00013_PreviewData.JPG")
    assert open_data_set(tmp_path).records["test"][0].paths["thermal"].endswith("FLIR_00013_PreviewData.JPG")


@pytest.mark.parametrize(
    ("modality", "name"), [("rgb", "FLIR_00013_RGB"), ("thermal", "FLIR_00013_PreviewData")], ids=["rgb", "thermal"]
)
def test_missing_images_of_one_modality_are_named(tmp_path, modality, name):
    make_tiny_flir(tmp_path)
    folder = tmp_path / f"images_{modality}_test" / "data"
    for path in folder.glob("*0001[34]*"):
        path.unlink()
    with pytest.raises(UserError, match=rf"{folder}.*{name}.*found none .and 1 more: python -m tools"):
        open_data_set(tmp_path)


def test_missing_image_folder(tmp_path):
    make_tiny_flir(tmp_path, num_test=1)
    folder = tmp_path / "images_rgb_test"
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{folder}.*RGB images"):
        open_data_set(tmp_path)


def test_other_layouts_are_refused(tmp_path):
    with pytest.raises(UserError, match="empty folder"):
        open_data_set(tmp_path)
    (tmp_path / "align_train.txt").touch()
    with pytest.raises(
        UserError, match=r"known layout.*found only align_train\.txt .for an own set: --dataset my_set\.yaml"
    ) as error:
        open_data_set(tmp_path)
    looked_for = [f"images_thermal_{word}/flir.json" for word in ("train", "train_train", "train_val", "val")]
    looked_for += [f"meta/thermal/flir_{word}.json" for word in ("train", "test")]
    assert all(file in str(error.value) for file in looked_for)
    with pytest.raises(UserError, match=r"none_here: no such data folder"):
        open_data_set(tmp_path / "none_here")


def test_half_a_layout_is_named(tmp_path):
    make_tiny_flir(tmp_path, layout="1 in three")
    (tmp_path / "images_thermal_train_val" / "flir.json").unlink()
    found = "found only images_thermal_train_train/flir.json, images_thermal_val/flir.json"
    with pytest.raises(UserError, match=rf"{found} .for an own set"):
        open_data_set(tmp_path)


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("2", "meta/thermal/flir_test.json"),
        ("1", "images_thermal_val/flir.json"),
        ("1 in three", "images_thermal_train_val/flir.json"),
    ],
)
def test_lists_with_other_category_ids_are_refused(tmp_path, layout, file):
    make_tiny_flir(tmp_path, layout=layout)
    path = tmp_path / file
    data = json.loads(path.read_text())
    data["categories"] = [{"id": i, "name": name} for i, name in enumerate(["car", "person", "bike"], 1)]
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=rf"^{path}: categories: .*'person': 1.*found.*'person': 2"):
        open_data_set(tmp_path)


@pytest.mark.parametrize("layout", ["1", "2"])
def test_day_and_night_beside_the_full_lists(tmp_path, layout):
    make_tiny_flir(tmp_path, 14, layout=layout)
    for subset in ("day", "night"):
        make_tiny_subset(tmp_path, subset, layout, own_images=layout == "1")
    assert len(open_data_set(tmp_path).records["train"]) == 14
    for subset in ("day", "night"):
        data = open_data_set(tmp_path, f"flir_aligned_{subset}")
        assert (data.name, data.notes["train"]["layout"]) == (f"flir_aligned_{subset}", f"{layout}, {subset}")
        assert len(data.records["train"]) == 12
        folder = f"images_thermal_train{f'_{subset}' if layout == '1' else ''}"
        assert Path(data.records["train"][0].paths["thermal"]).parent == tmp_path / folder / "data"


@pytest.mark.parametrize("layout", ["1", "2"])
def test_the_only_subset_is_read_without_being_named(tmp_path, layout):
    make_tiny_subset(tmp_path, "night", layout)
    assert open_data_set(tmp_path).notes["train"]["layout"] == f"{layout}, night"
    with pytest.raises(UserError, match=r"expected day lists of FLIR-Aligned .layout 1, day: .*flir_aligned_night\)$"):
        open_data_set(tmp_path, "flir_aligned_day")


def test_two_subsets_without_full_lists_must_be_named(tmp_path):
    make_tiny_subset(tmp_path, "night", "2")
    make_tiny_subset(tmp_path, "day", "2")
    with pytest.raises(UserError, match=r"pass --dataset flir_aligned_day or flir_aligned_night") as error:
        open_data_set(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_xml_and_images_of_layout_3(tmp_path):
    make_tiny_align(tmp_path)
    paths = [tmp_path / "Annotations" / f"FLIR_0000{n}_PreviewData.xml" for n in (2, 3)]
    paths[0].unlink()
    with pytest.raises(UserError, match=rf"^{paths[0]}: expected a Pascal VOC file, found none to read \(No such file"):
        open_data_set(tmp_path)
    (tmp_path / "JPEGImages" / "FLIR_00003_RGB.jpg").unlink()
    with pytest.raises(UserError, match="and 1 more: python -m tools.check_data /.* --dataset flir_aligned"):
        open_data_set(tmp_path)


@pytest.mark.parametrize("listed", ["FLIR_{:05d}_PreviewData.jpeg", "FLIR_{:05d}_PreviewData.xml", "FLIR_{:05d}"])
def test_names_in_the_lists_of_layout_3(tmp_path, listed):
    data = open_data_set(make_tiny_align(tmp_path, listed=listed))
    assert data.records["test"][0].file_name == "FLIR_00013_PreviewData.jpeg"
    with (tmp_path / "align_train.txt").open("a") as file:
        file.write("FLIR_00001_PreviewData\n")
    with pytest.raises(UserError, match="line 13: expected each name once, found FLIR_00001_PreviewData of line 1"):
        open_data_set(tmp_path)


@pytest.mark.parametrize(("make", "name"), [(make_tiny_llvip, "llvip"), (make_tiny_m3fd, "m3fd")])
def test_another_data_set_is_recognised(tmp_path, make, name):
    make(tmp_path)
    with pytest.raises(UserError, match=rf"a known layout.*found .* \(it can be read with --dataset {name}\)$"):
        open_data_set(tmp_path)
    make_tiny_flir(tmp_path / "flir")
    with pytest.raises(UserError, match=r"\(it can be read with --dataset flir_aligned\)$"):
        open_data_set(tmp_path / "flir", name)


@pytest.fixture
def real_data() -> Path:
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with flir_aligned_mini and flir_aligned_meta")
    return Path(os.environ["NAS_DSF_DATA"])


def test_real_pairs(real_data):
    data = open_data_set(real_data / "flir_aligned_mini")
    counts = {split: (note["images"], note["boxes"]) for split, note in data.notes.items()}
    assert counts == {"train": (100, 726), "test": (41, 294)}
    assert data.notes["train"]["layout"] == "2"
    for records in data.records.values():
        rgb, thermal = load_images(records[0], CHANNELS).values()
        assert (len(rgb), len(thermal)) == (3, 1)


REAL_COUNTS = [("test", 1013, 8591, 277), ("train", 4128, 32161, 1086)]


@pytest.mark.parametrize(("split", "images", "boxes", "clipped"), REAL_COUNTS)
def test_real_boxes(real_data, split, images, boxes, clipped):
    path = real_data / "flir_aligned_meta" / "thermal" / f"flir_{split}.json"
    begin = time.perf_counter()
    parsed = parse_coco(path, CLASSES, ALIASES)
    notes = parsed.notes
    assert (notes["images"], notes["boxes"], notes["clipped"]) == (images, boxes, clipped)
    assert {image["scene"] for image in parsed.ground_truth["images"]} == {"day", "night"}
    assert time.perf_counter() - begin < 4  # seconds; two splits and the folders in 5
