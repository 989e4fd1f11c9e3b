"""Folders of single images, by generated sets and real ones: read, cut, loaded and checked like pairs."""

import json
import os
from pathlib import Path

import pytest
import torch

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data, open_data_set
from tests.run_commands import refused, run
from tests.tiny_sets import make_tiny_coco, make_tiny_own, make_tiny_voc
from tools import check_data, dataset_stats
from utils.errors import UserError

MAKE = {"voc": make_tiny_voc, "coco": make_tiny_coco}
IMAGES = ImageOptions((64, 80), hflip=0.5, scale_jitter=(0.8, 1.2), photometric=0.3)


def open_tiny(folder: Path, dataset: str, **options) -> DataModule:
    return open_data(str(folder), dataset, IMAGES, LoaderOptions(batch_size=4), **options)


@pytest.mark.parametrize("dataset", MAKE)
def test_a_set_of_single_images_is_loaded(tmp_path, dataset):
    parts = open_tiny(MAKE[dataset](tmp_path), dataset, modalities=("rgb",))
    assert (parts.data.modalities, parts.unit) == (("rgb",), "images")
    assert set(parts.data.facts["normalization"]) == {"rgb"}
    assert sum(len(parts.records(part)) for part in ("train", "arch", "val")) == 12
    assert len(parts.records("test")) == 4
    (batch,) = parts.loader("test", train=False)
    assert batch["images"].keys() == {"rgb"}
    assert (batch["images"]["rgb"].shape, batch["image_size"]) == ((4, 3, 64, 80), (64, 80))
    assert (batch["labels"] >= 0).sum() == sum(len(record.labels) for record in parts.records("test"))
    assert next(iter(parts.loader("train", train=True)))["images"]["rgb"].dtype == torch.uint8


@pytest.mark.parametrize("dataset", MAKE)
def test_a_sound_set_of_single_images_passes_the_check(tmp_path, capsys, dataset):
    folder, out = MAKE[dataset](tmp_path / "data"), tmp_path / "report.json"
    text = run(check_data.main, capsys, folder, "--dataset", dataset, "--json", out)
    report = json.loads(out.read_text())
    assert report["problems"] == []
    assert report["modalities"] == ["rgb"]
    assert report["lists"]["train"]["images"] == report["lists"]["train"]["pairs"] == 12
    assert "misregistration" not in text
    (folder / {"voc": "JPEGImages", "coco": "train2017"}[dataset] / "000002.jpg").write_bytes(b"no image")
    assert "1 problem" in refused(check_data.main, capsys, folder, "--dataset", dataset)


def test_statistics_of_single_images(tmp_path, capsys):
    text = run(dataset_stats.main, capsys, make_tiny_coco(tmp_path), "--dataset", "coco")
    assert "12 training images" in text
    assert "  rgb: {mean: [" in text
    assert "thermal" not in text


def test_without_a_test_list(tmp_path):
    """The training list is cut as if there were one; only a test is refused."""
    parts = open_tiny(make_tiny_voc(tmp_path, {"train": 20}), "voc")
    assert sum(len(parts.records(part)) for part in ("train", "arch", "val")) == 20
    assert any(
        "no test list: the training list is cut into train, arch and val" in line for line in parts.data.warnings
    )
    with pytest.raises(UserError, match="voc: expected a test list, found only train"):
        parts.loader("test", train=False)
    with pytest.raises(UserError, match="--paper-protocol: expected a test list"):
        open_tiny(tmp_path, "voc", paper_protocol=True)


def test_val_is_tested_on_where_there_is_no_test_list(tmp_path):
    for dataset, make in MAKE.items():
        parts = open_tiny(make(tmp_path / dataset, {"train": 12, "val": 4}), dataset)
        assert {name: len(listed) for name, listed in parts.data.records.items()} == {"train": 12, "test": 4}


def test_without_lists_all_images_are_the_training_list(tmp_path):
    folder = make_tiny_voc(tmp_path)
    for path in (folder / "ImageSets/Main").iterdir():
        path.unlink()
    assert {name: len(listed) for name, listed in open_data_set(folder, "voc").records.items()} == {"train": 16}


def test_a_network_of_two_modalities_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected images of thermal and rgb, which the network reads, found only rgb"):
        open_tiny(make_tiny_voc(tmp_path), "voc", modalities=("thermal", "rgb"))
    with pytest.raises(UserError, match="--modality_dropout: expected two modalities or more, found only rgb"):
        open_data(str(tmp_path), "voc", ImageOptions(modality_dropout=0.5), LoaderOptions(batch_size=4))


@pytest.mark.parametrize("modality", ["rgb", "thermal"])
def test_an_own_set_of_one_modality(tmp_path, modality):
    """The same records as of the pairs, with one path each."""
    make_tiny_own(tmp_path)
    pairs = open_data_set(tmp_path, str(tmp_path / "my_set.yaml"))
    description = (tmp_path / "my_set.yaml").read_text().splitlines()
    description[1] = f'images: {{{modality}: "{modality}/{{list}}"}}'
    (tmp_path / "one.yaml").write_text("\n".join([*description, f"modalities: [{modality}]"]))
    single = open_data_set(tmp_path, str(tmp_path / "one.yaml"))
    assert single.modalities == (modality,)
    for ours, theirs in zip(single.records["train"], pairs.records["train"], strict=True):
        assert (ours.file_name, ours.paths) == (theirs.file_name, {modality: theirs.paths[modality]})
        assert ours.content == theirs.content


def test_an_unknown_modality_is_refused(tmp_path):
    make_tiny_own(tmp_path, more="modalities: [depth]\n")
    with pytest.raises(UserError, match="modalities: expected thermal or rgb, or both, found 'depth'"):
        open_data_set(tmp_path, str(tmp_path / "my_set.yaml"))


@pytest.mark.parametrize(("dataset", "gone", "words"), [
    ("voc", "JPEGImages", "expected the folders Annotations and JPEGImages of Pascal VOC, found no JPEGImages"),
    ("coco", "annotations", r"expected COCO files \*train\*.json, found none"),
    ("coco", "train2017", "expected the images of instances_train2017.json in train2017 or images, found neither"),
])  # fmt: skip
def test_folders_that_are_not_there(tmp_path, dataset, gone, words):
    folder = MAKE[dataset](tmp_path)
    (folder / gone).rename(folder / "elsewhere")
    with pytest.raises(UserError, match=words):
        open_data_set(folder, dataset)


@pytest.mark.parametrize(("name", "dataset", "numbers"), [
    ("bccd_voc", "voc", {"train": 205, "val": 87, "test": 72}),
    ("coco_mini", "coco", {"train": 96, "test": 96}),
])  # fmt: skip
def test_real_single_images(capsys, name, dataset, numbers):
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with bccd_voc and coco_mini")
    folder = Path(os.environ["NAS_DSF_DATA"]) / name
    parts = open_tiny(folder, dataset, modalities=("rgb",))
    assert {origin: len(records) for origin, records in parts.data.records.items()} == numbers
    batch = next(iter(parts.loader("test", train=False)))
    assert batch["images"]["rgb"].shape[1:] == (3, 64, 80)
    assert "problems: 0" in run(check_data.main, capsys, folder, "--dataset", dataset, "--workers", 1)
