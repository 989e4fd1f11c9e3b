"""Reader of Pascal VOC files: equal to the COCO copy of a real set, and one line of error for each fault."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from datasets.detection.coco_json import parse_coco
from datasets.detection.voc_xml import parse_voc, read_names
from tests.tiny_sets import voc_text
from utils.errors import UserError

CLASSES = ["person", "bike", "car"]
ALIASES = {"bicycle": "bike"}
BOX = ("car", [10, 20, 40, 60])
GOOD = voc_text("a.jpg", (100, 640), [BOX])
CELLS = ["RBC", "WBC", "Platelets"]
BLOOD_LISTS = ["train", "val", "test"]


def parse(folder: Path, text: str, report=None, name: str = "a"):
    path = folder / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return parse_voc({name: path}, CLASSES, ALIASES, *([report] if report else []))


def test_boxes_and_labels(tmp_path):
    boxes = [BOX, ("person", [0.5, 1.25, 3.5, 9.75])]
    parsed = parse(tmp_path, voc_text("a.jpg", (100, 640), boxes))
    (image,) = parsed.images
    np.testing.assert_array_equal(image.boxes_xyxy, np.float32([b for _, b in boxes]))
    assert image.labels.tolist() == [2, 0]
    assert (image.image_id, image.file_name, image.width, image.height) == ("a", "a.jpg", 640, 100)
    assert parsed.category_ids == [1, 2, 3]
    assert parsed.ground_truth["annotations"][0] == {
        "id": 1, "image_id": "a", "category_id": 3, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0
    }  # fmt: skip


def test_no_objects(tmp_path):
    (image,) = parse(tmp_path, voc_text("a.jpg", (100, 640), [])).images
    assert (image.boxes_xyxy.shape, image.labels.shape) == ((0, 4), (0,))


def test_tags_in_other_order_with_spaces_and_more_of_them(tmp_path):
    text = """<?xml version="1.0" encoding="ISO-8859-1"?>
    <annotation verified="yes">
      <object>
        <part><name>person</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
        <bndbox> <ymax> 60 </ymax><xmax>\t40.0</xmax><ymin>\n20\n</ymin><xmin> 1e1 </xmin> </bndbox>
        <difficult>1</difficult><truncated>1</truncated><name>\n bicycle </name>
      </object>
      <size><depth>1</depth> <height> 100 </height><width>640.0</width></size>
      <path>C:\\pictures\\a.jpg</path><filename> folder/a.jpg </filename>
    </annotation>"""
    parsed = parse(tmp_path, text.lstrip())
    assert parsed.images[0].boxes_xyxy.tolist() == [[10, 20, 40, 60]]
    assert parsed.images[0].labels.tolist() == [1]
    assert parsed.images[0].file_name == "a.jpg"
    assert parsed.notes == {"images": 1, "boxes": 1, "clipped": 0, "crowd": 0}


@pytest.mark.parametrize("said", ["b.jpg", "", "C:\\sets\\a.jpg", "a"])
def test_a_wrong_file_name_in_it_is_not_believed(tmp_path, said):
    assert parse(tmp_path, voc_text(said, (100, 640), [BOX])).images[0].file_name == "a"


@pytest.mark.parametrize(("name", "file_name"), [("set00/V000/a", "set00/V000/a.png"), ("a.v2.b", "a.v2.b.png")])
def test_names_with_folders_and_dots(tmp_path, name, file_name):
    parsed = parse(tmp_path, voc_text(Path(file_name).name, (100, 640), [BOX]), name=name)
    assert (parsed.images[0].image_id, parsed.images[0].file_name) == (name, file_name)
    assert parsed.ground_truth["annotations"][0]["image_id"] == name


def test_other_classes_are_dropped_and_counted(tmp_path):
    parsed = parse(tmp_path, voc_text("a.jpg", (100, 640), [("dog", [1, 1, 9, 9]), BOX, ("dog", [1, 1, 9, 9])]))
    assert parsed.notes == {"images": 1, "boxes": 1, "clipped": 0, "crowd": 0, "dropped_dog": 2}
    assert parsed.images[0].labels.tolist() == [2]


def test_boxes_without_width_or_height_are_left_out_and_told(tmp_path):
    parsed = parse(tmp_path, voc_text("a.jpg", (100, 640), [("car", [5, 5, 5, 9]), BOX, ("car", [5, 9, 7, 9])]))
    assert (parsed.notes["empty"], parsed.notes["boxes"]) == (2, 1)
    assert [remark.partition(": ")[2].partition(":")[0] for remark in parsed.warnings] == [
        "object[0].bndbox", "object[2].bndbox"
    ]  # fmt: skip


def test_boxes_a_little_outside_are_clipped_for_training_only(tmp_path):
    parsed = parse(tmp_path, voc_text("a.jpg", (100, 640), [("car", [-1, 20, 641, 60])]))
    assert parsed.images[0].boxes_xyxy.tolist() == [[0, 20, 640, 60]]
    assert parsed.ground_truth["annotations"][0]["bbox"] == [-1, 20, 642, 40]


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


FAULTS = {
    "empty": ("", "Pascal VOC XML, found an empty file"),
    "cut": (GOOD[:-30], "whole Pascal VOC XML, found text that stops making sense"),
    "no XML": ("x, y, width", "text that stops making sense"),
    "other encoding": (f'<?xml version="1.0" encoding="gb2312"?>{GOOD}', "multi-byte encodings"),
    "no encoding": (f'<?xml version="1.0" encoding="none"?>{GOOD}', "unknown encoding"),
    "other root": ("<svg/>", "expected an <annotation>, found <svg>"),
    "no size": (re.sub("<size>.*</size>", "", GOOD), "size.width: expected a finite number, found no such field"),
    "no height": (replaced("<height>100</height>", ""), "size.height: expected a finite number, found no such field"),
    "size 0": (replaced("640", "0"), "size.width: expected a positive integer (pixels), found 0"),
    "half a pixel": (replaced("640", "640.5"), "size.width: expected a positive integer (pixels), found 640.5"),
    "no box": (re.sub("<bndbox>.*</bndbox>", "", GOOD), "object[0].bndbox.xmin: expected a finite number, found no"),
    "no corner": (replaced("<ymax>60</ymax>", ""), "object[0].bndbox.ymax: expected a finite number, found no such"),
    "empty corner": (replaced("<ymax>60<", "<ymax><"), "object[0].bndbox.ymax: expected a finite number, found ''"),
    "text": (replaced("<ymin>20<", "<ymin>top<"), "object[0].bndbox.ymin: expected a finite number, found 'top'"),
    "NaN": (replaced("<ymin>20<", "<ymin>NaN<"), "object[0].bndbox.ymin: expected a finite number, found 'NaN'"),
    "infinite": (replaced("<xmax>40<", "<xmax>inf<"), "object[0].bndbox.xmax: expected a finite number, found 'inf'"),
    "no name": (replaced("<name>car</name>", ""), "object[0].name: expected a name, found none"),
    "blank name": (replaced(">car<", "> <"), "object[0].name: expected a name, found none"),
    "corners swapped": (replaced("<xmax>40<", "<xmax>4<"), "object[0].bndbox: expected a width and height above 0"),
    "outside": (replaced("<xmax>40<", "<xmax>700<"), "object[0].bndbox: expected at most 6.4 px outside the image"),
    "elsewhere": (replaced("<ymin>20<", "<ymin>-50<").replace(">60<", ">-9<"), "expected a box that overlaps its"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    text, words = FAULTS[fault]
    with pytest.raises(UserError) as error:
        parse(tmp_path, text)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'a.xml'}: ")
    assert "\n" not in message
    assert words in message, message


def test_missing_file(tmp_path):
    path = tmp_path / "b.xml"
    with pytest.raises(UserError, match=rf"^{path}: expected a Pascal VOC file, found none to read \(No such file"):
        parse_voc({"b": path}, CLASSES, ALIASES)


def test_every_fault_is_reported_and_the_rest_is_kept(tmp_path):
    objects = [BOX, ("car", [9, 9, 4, 12]), ("person", [1, 1, 9, 9])]
    (tmp_path / "b.xml").write_text(voc_text("b.jpg", (100, 640), objects).replace("<name>person</name>", ""))
    (tmp_path / "c.xml").write_text(GOOD)
    faults = []
    files = {name: tmp_path / f"{name}.xml" for name in "abc"}
    parsed = parse_voc(files, CLASSES, ALIASES, faults.append)
    assert [image.image_id for image in parsed.images] == ["b", "c"]
    assert [image.boxes_xyxy.tolist() for image in parsed.images] == [[BOX[1]], [BOX[1]]]
    assert [re.search(r"(\w)\.xml: ([^:]*)", str(fault)).groups() for fault in faults] == [
        ("a", "expected a Pascal VOC file, found none to read (No such file or directory)"),
        ("b", "object[2].name"),
        ("b", "object[1].bndbox"),
    ]


@pytest.mark.parametrize("text", ["a\nb.c\nd/e\n", "\n a \r\nb.c\t\n\nd/e", "\ufeffa\nb.c\nd/e\n"])
def test_names(tmp_path, text):
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    assert read_names(tmp_path / "list.txt") == ["a", "b.c", "d/e"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "expected a list of image names, found none to read"),
        (b"\n \n", "expected a list of image names, found an empty file"),
        (b"\xff\xfe\xfd", "expected a list of image names, found none to read"),
        (b"a\nb\n\na\n", "line 4: expected each name once, found a of line 1 again"),
        (b"a\n\0b\n", "line 2: expected a name, found a NUL character"),
    ],
)
def test_faults_of_name_lists(tmp_path, content, words):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_names(path)
    assert str(error.value).startswith(f"{path}: {words}")
    assert "\n" not in str(error.value)


@pytest.fixture
def blood() -> Path:
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with bccd_voc")
    return Path(os.environ["NAS_DSF_DATA"]) / "bccd_voc"


@pytest.mark.parametrize("split", BLOOD_LISTS)
def test_equals_the_coco_copy_of_a_real_set(blood, split):
    names = read_names(blood / f"ImageSets/Main/{split}.txt")
    files = {name: blood / f"Annotations/{name}.xml" for name in names}
    voc = parse_voc(files, CELLS, {})
    coco = parse_coco(blood / f"coco/instances_{split}.json", CELLS, {})
    assert len(voc.images) == len(names) > 50
    assert sum(len(image.labels) for image in voc.images) > 500
    by_name = {image.file_name: image for image in coco.images}
    assert [image.image_id for image in voc.images] == names
    for image in voc.images:
        other = by_name.pop(f"{image.image_id}.jpg")
        assert (image.width, image.height) == (other.width, other.height)
        np.testing.assert_array_equal(image.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(image.labels, other.labels)
    assert not by_name


def test_empty_boxes_of_the_real_set_are_left_out_and_counted(blood):
    found = {}
    for split in BLOOD_LISTS:
        names = read_names(blood / f"ImageSets/Main/{split}.txt")
        parsed = parse_voc({name: blood / f"Annotations/{name}.xml" for name in names}, CELLS, {})
        empty = [remark for remark in parsed.warnings if "no width or height" in remark]
        assert len(empty) == parsed.notes.get("empty", 0)
        found |= {re.search(r"BloodImage_(\d+)\.xml", remark)[1]: remark for remark in empty}
    assert sorted(found) == ["00338", "00343"]
