"""VOC2012 and COCO 2017 as published: layouts, parts, corners, difficult objects and crowds."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data, open_data_set
from datasets.detection.voc_coco import VOC_CLASSES
from tasks.detection.evaluator import DetectionEvaluator
from tests.run_commands import run
from tests.tiny_sets import SIZE, corners, make_tiny_coco, make_tiny_own, make_tiny_voc, voc_text
from tools import check_data, dataset_stats
from utils.errors import UserError

NUMBERS = {"train": 20, "val": 6}


def make_voc2012(folder: Path, below: str = "VOC2012") -> Path:
    make_tiny_voc(folder / below, NUMBERS)
    (folder / below / "ImageSets/Main/test.txt").write_text("999999\n")  # whose boxes were never published
    (folder / below / "ImageSets/Main/aeroplane_train.txt").write_text("000001 -1\n")
    return folder


def make_coco2017(folder: Path, below: str = ".") -> Path:
    make_tiny_coco(folder / below, NUMBERS)
    (folder / below / "annotations/person_keypoints_train2017.json").write_text("{}")
    return folder


def open_tiny(folder: Path, dataset: str, **options) -> DataModule:
    return open_data(str(folder), dataset, ImageOptions((64, 80)), LoaderOptions(4), modalities=("rgb",), **options)


def rewrite_object(folder: Path, name: str, objects: str) -> None:
    path = folder / f"VOC2012/Annotations/{name}.xml"
    path.write_text(path.read_text().replace("</annotation>", f"{objects}</annotation>"))


@pytest.mark.parametrize("below", [".", "VOC2012", "voc/VOC2012", "VOCdevkit/VOC2012"])
def test_voc2012_is_found_where_it_lies(tmp_path, below):
    data = open_data_set(make_voc2012(tmp_path, below), "voc2012")
    assert {origin: len(records) for origin, records in data.records.items()} == {"train": 20, "test": 6}
    assert (len(data.classes), data.classes) == (20, sorted(VOC_CLASSES))


@pytest.mark.parametrize("below", [".", "coco"])
@pytest.mark.parametrize("images", [".", "images"])
def test_coco2017_is_found_where_it_lies(tmp_path, below, images):
    base = make_coco2017(tmp_path, below) / below
    for split in NUMBERS:
        (base / images).mkdir(exist_ok=True)
        (base / f"{split}2017").rename(base / images / f"{split}2017")
    data = open_data_set(tmp_path, "coco2017")
    assert {origin: len(records) for origin, records in data.records.items()} == {"train": 20, "test": 6}


@pytest.mark.parametrize(("dataset", "make"), [("voc2012", make_voc2012), ("coco2017", make_coco2017)])
def test_train_is_cut_by_the_seed_and_val_is_test(tmp_path, dataset, make):
    folder = make(tmp_path)
    parts = open_tiny(folder, dataset).split.parts
    assert sorted(name for names in parts.values() for name in names) == [f"{n:06d}.jpg" for n in range(1, 21)]
    assert all(parts.values())
    assert open_tiny(folder, dataset, split_seed=1).split.parts != parts
    assert [r.file_name for r in open_tiny(folder, dataset).records("test")] == [f"{n:06d}.jpg" for n in range(21, 27)]


def test_corners_count_from_one_with_decimals_as_they_are(tmp_path):
    """The same files by the plain reader, whose corners count from zero."""
    folder = make_voc2012(tmp_path)
    (folder / "VOC2012/Annotations/000001.xml").write_text(
        voc_text("000001.jpg", SIZE, [("person", [1, 1, 40.25, 30]), ("dog", [45.7, 8.2, 80, 64])])
    )
    record = open_data_set(folder, "voc2012").records["train"][0]
    torch.testing.assert_close(
        torch.from_numpy(record.boxes_xyxy), torch.tensor([[0, 0, 39.25, 29], [44.7, 7.2, 79, 63]])
    )
    ours, plain = open_data_set(folder, "voc2012"), open_data_set(folder / "VOC2012", "voc2012")
    assert [r.content for r in ours.records["test"]] == [r.content for r in plain.records["test"]]
    (folder / "VOC2012/ImageSets/Main/test.txt").unlink()
    plain = open_data_set(folder / "VOC2012", "voc").ground_truth["test"]["annotations"]
    for one, other in zip(ours.ground_truth["test"]["annotations"], plain, strict=True):
        x, y, width, height = other["bbox"]
        assert one["bbox"] == [x - 1, y - 1, width, height]


def test_difficult_objects_are_not_learned_from_and_neither_wanted_nor_wrong(tmp_path):
    """The score of a detector that finds all other objects, and of one that is surest of the difficult one."""
    folder = make_voc2012(tmp_path)
    bounds = "<bndbox><xmin>40</xmin><ymin>5</ymin><xmax>70</xmax><ymax>60</ymax></bndbox>"
    rewrite_object(folder, "000022", f"<object><name>boat</name><difficult>0</difficult>{bounds}</object>")
    without = open_tiny(folder, "voc2012")
    bounds = "<bndbox><xmin>3</xmin><ymin>5</ymin><xmax>33</xmax><ymax>60</ymax></bndbox>"
    rewrite_object(folder, "000021", f"<object><name>boat</name><difficult>1</difficult>{bounds}</object>")
    data = open_tiny(folder, "voc2012")
    assert [r.content for r in data.records("test")] == [r.content for r in without.records("test")]
    assert data.data.notes["test"]["crowd"] == 1
    boat = {"boxes_xyxy": torch.tensor([[2.0, 4, 32, 59]]), "scores": torch.ones(1), "labels": torch.tensor([3])}
    scores = []
    for extra, part in ((False, data), (True, data), (True, without)):
        evaluator = DetectionEvaluator(part.data.ground_truth["test"], data.data.category_ids, data.data.classes)
        for record in part.records("test"):
            boxes, labels = torch.from_numpy(record.boxes_xyxy), torch.from_numpy(record.labels)
            found = {"boxes_xyxy": boxes, "scores": torch.full((len(boxes),), 0.5), "labels": labels}
            if extra and record.image_id == "000021":
                found = {key: torch.cat([boat[key], found[key]]) for key in found}
            evaluator.add({"image_ids": [record.image_id]}, [found])
        scores.append(evaluator.compute())
    assert scores[0] == scores[1]
    assert (scores[0]["AP"], scores[0]["AP_boat"]) == (pytest.approx(1), pytest.approx(1))
    assert scores[2]["AP_boat"] == pytest.approx(0.5), "a box where nothing is, and surer than the object's"


def test_difficult_is_checked(tmp_path):
    folder = make_voc2012(tmp_path)
    rewrite_object(folder, "000001", "<object><name>car</name><difficult>yes</difficult></object>")
    with pytest.raises(UserError, match=r"000001.xml: object\[\d\].*expected"):
        open_data_set(folder, "voc2012")


def test_an_own_set_may_count_from_one_and_ignore_difficult_objects(tmp_path):
    plain = open_data_set(make_tiny_own(tmp_path, "voc"), str(tmp_path / "my_set.yaml"))
    for path in (tmp_path / "xml").iterdir():
        path.write_text(path.read_text().replace("</name><bndbox>", "</name><difficult>1</difficult><bndbox>", 1))
    text = (tmp_path / "my_set.yaml").read_text()
    (tmp_path / "my_set.yaml").write_text(f"{text}first_pixel: 1\ndifficult: ignore\n")
    data = open_data_set(tmp_path, str(tmp_path / "my_set.yaml"))
    ours, theirs = (d.ground_truth["train"]["annotations"] for d in (data, plain))
    assert [a["bbox"] for a in ours] == [[a["bbox"][0] - 1, a["bbox"][1] - 1, *a["bbox"][2:]] for a in theirs]
    objects = [len(record.labels) for record in plain.records["train"]]
    assert [len(record.labels) for record in data.records["train"]] == [max(num - 1, 0) for num in objects]


@pytest.mark.parametrize(("line", "words"), [
    ("first_pixel: 2", "first_pixel: expected 0 or 1, the number of the first pixel, found 2"),
    ("difficult: drop", "difficult: expected use or ignore, found 'drop'"),
])  # fmt: skip
def test_fields_of_xml_files_are_checked(tmp_path, line, words):
    make_tiny_own(tmp_path, "voc", more=f"{line}\n")
    with pytest.raises(UserError, match=words):
        open_data_set(tmp_path, str(tmp_path / "my_set.yaml"))
    make_tiny_own(tmp_path, "coco", more=f"{line}\n")
    with pytest.raises(UserError, match="expected only beside Pascal VOC files, found"):
        open_data_set(tmp_path, str(tmp_path / "my_set.yaml"))


def test_the_published_search_learns_on_all_images_in_both_roles(tmp_path):
    module = open_tiny(make_voc2012(tmp_path), "voc2012", paper_protocol=True)
    everything = {f"{n:06d}.jpg" for n in range(1, 27)}
    assert {record.name for record in module.records("train")} == everything
    assert {record.name for record in module.records("arch")} == everything
    train, arch = (module.loader(part, train=True) for part in ("train", "arch"))
    shared = [set(a["file_names"]) == set(b["file_names"]) for a, b in zip(train, arch, strict=True)]
    assert not any(shared), "weights and logits step on different images"
    assert module.list_of("val") == "test"
    assert module.learning == ("training list",)
    assert {record.name for record in module.records(*module.learning)} == {f"{n:06d}.jpg" for n in range(1, 21)}


def test_category_ids_become_channels_in_the_order_of_the_file(tmp_path):
    """Against pycocotools, with gaps between the ids as COCO's own have."""
    folder = make_coco2017(tmp_path)
    for name in ("train", "val"):
        path = folder / f"annotations/instances_{name}2017.json"
        content = json.loads(path.read_text())
        for item in content["categories"]:
            item["id"] = {1: 1, 2: 18, 3: 90}[item["id"]]
        for item in content["annotations"]:
            item["category_id"] = {1: 1, 2: 18, 3: 90}[item["category_id"]]
        content["annotations"][0]["iscrowd"] = 1
        path.write_text(json.dumps(content))
    data, coco = open_data_set(folder, "coco2017"), COCO(str(path))
    assert (data.classes, data.category_ids) == (["person", "bike", "car"], coco.getCatIds())
    for record in data.records["test"]:
        items = coco.loadAnns(coco.getAnnIds(record.image_id, iscrowd=False))
        assert [data.category_ids[label] for label in record.labels] == [item["category_id"] for item in items]
        assert record.boxes_xyxy.tolist() == [corners(item["bbox"]) for item in items]
    assert data.notes["test"]["crowd"] == 1


def test_lists_that_are_not_there(tmp_path):
    folder = make_coco2017(tmp_path / "coco_only")
    (folder / "annotations/instances_val2017.json").unlink()
    with pytest.raises(UserError, match=r"expected instances_{train,val}2017.json, found no instances_val2017.json"):
        open_data_set(folder, "coco2017")
    folder = make_voc2012(tmp_path / "voc_only")
    (folder / "VOC2012/ImageSets/Main/val.txt").unlink()
    with pytest.raises(UserError, match=r"val.txt: expected a list of image names, found none"):
        open_data_set(folder, "voc2012")


@pytest.mark.parametrize(("dataset", "make"), [("voc2012", make_voc2012), ("coco2017", make_coco2017)])
def test_the_tools_read_published_sets(tmp_path, capsys, dataset, make):
    folder = make(tmp_path)
    assert "problems: 0" in run(check_data.main, capsys, folder, "--dataset", dataset, "--workers", 1)
    assert "  rgb: {mean: [" in run(dataset_stats.main, capsys, folder, "--dataset", dataset, "--workers", 1)


def test_the_real_mini_set_is_read_as_coco2017(tmp_path):
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with coco_mini")
    folder = Path(os.environ["NAS_DSF_DATA"]) / "coco_mini"
    data, coco = open_data_set(folder, "coco2017"), COCO(str(folder / "annotations/instances_train2017.json"))
    assert data.category_ids == coco.getCatIds()
    assert max(int(label) for record in data.records["train"] for label in record.labels) < len(data.classes) == 80
    shutil.copytree(folder, tmp_path / "datasets/coco")
    assert [r.content for r in open_data_set(tmp_path / "datasets", "coco2017").records["test"]] == [
        record.content for record in data.records["test"]
    ]
