"""LLVIP: both forms of its annotations, and what is told where a folder or list is missing."""

import json
import shutil

import pytest

from datasets.detection.opening import open_data_set
from tests.tiny_sets import make_tiny_llvip, write_json
from utils.errors import UserError


@pytest.mark.parametrize(("form", "layout"), [("coco", "COCO JSON"), ("voc", "Pascal VOC")])
def test_both_forms(tmp_path, form, layout):
    data = open_data_set(make_tiny_llvip(tmp_path, form), "llvip")
    assert (data.name, data.classes, data.category_ids) == ("llvip", ["person"], [1])
    assert data.notes["train"]["layout"] == layout
    first = data.records["test"][0]
    assert (first.paths["rgb"], first.paths["thermal"]) == tuple(
        str(tmp_path / folder / "test" / "000013.jpg") for folder in ("visible", "infrared")
    )
    assert first.file_name == "000013.jpg"


def test_lists_in_a_folder_below(tmp_path):
    make_tiny_llvip(tmp_path)
    for split in ("train", "test"):
        (tmp_path / "coco").mkdir(exist_ok=True)
        (tmp_path / f"{split}.json").rename(tmp_path / "coco" / f"LLVIP_{split}.json")
    assert len(open_data_set(tmp_path, "llvip").records["train"]) == 12


def edit(tmp_path, fault: str) -> None:
    if fault == "two train lists":
        shutil.copy(tmp_path / "train.json", tmp_path / "infrared" / "train.json")
    elif fault == "no test list":
        (tmp_path / "test.json").unlink()
    elif fault == "no list":
        (tmp_path / "train.json").unlink()
        (tmp_path / "test.json").unlink()
    elif fault == "no folder":
        shutil.rmtree(tmp_path / "visible" / "test")
    else:
        (tmp_path / "visible" / "train" / "000003.jpg").unlink()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("two train lists", r"infrared/train.json: expected one list of train images, found .*train.json as well"),
        ("no test list", r"expected COCO files of train and test, found .*train.json .for an own set"),
        ("no list", r"expected \*train\*.json and \*test\*.json, or Annotations/\*.xml, found neither .for an own set"),
        ("no folder", r"expected LLVIP's folders infrared/train.*, found no visible/test .for an own set"),
        ("no image", r"visible/train: expected the RGB image 000003\{.jpg.*, found none$"),
    ],
)
def test_faults(tmp_path, fault, words):
    edit(make_tiny_llvip(tmp_path), fault)
    with pytest.raises(UserError, match=words) as error:
        open_data_set(tmp_path, "llvip")
    assert "\n" not in str(error.value)


def test_missing_xml(tmp_path):
    make_tiny_llvip(tmp_path, "voc")
    path = tmp_path / "Annotations" / "000002.xml"
    path.unlink()
    with pytest.raises(UserError, match=rf"^{path}: expected a Pascal VOC file, found none to read"):
        open_data_set(tmp_path, "llvip")


def test_a_file_of_two_lists_is_passed_over(tmp_path):
    make_tiny_llvip(tmp_path)
    write_json(tmp_path / "train_test.json", json.loads((tmp_path / "train.json").read_text()))
    assert len(open_data_set(tmp_path, "llvip").records["test"]) == 4
