"""Reader of COCO files: what it keeps, and one line of error for each fault."""

import copy
import json

import numpy as np
import pytest

from datasets.detection.coco_json import parse_coco
from utils.errors import UserError

CLASSES = ["person", "bike", "car"]
ALIASES = {"bicycle": "bike"}


def make_file() -> dict:
    box = {"id": 0, "image_id": "a", "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1100, "iscrowd": 0}
    return {
        "images": [
            {"id": "a", "file_name": "a.jpg", "width": 640, "height": 100},
            {"id": "b", "file_name": "b.jpg", "width": 640, "height": 100},
        ],
        "annotations": [box],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}, {"id": 3, "name": "car"}],
    }


def add_box(data: dict, **fields) -> dict:
    data["annotations"].append({**copy.deepcopy(data["annotations"][0]), "id": len(data["annotations"]), **fields})
    return data


def parse(tmp_path, data):
    path = tmp_path / "flir.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return parse_coco(path, CLASSES, ALIASES)


def test_boxes_labels_and_images_without_boxes(tmp_path):
    parsed = parse(tmp_path, add_box(make_file(), category_id=2, bbox=[0, 0, 1.5, 2]))
    first, second = parsed.images
    np.testing.assert_array_equal(first.boxes_xyxy, np.float32([[10, 20, 40, 60], [0, 0, 1.5, 2]]))
    assert first.labels.tolist() == [0, 1]
    assert first.boxes_xyxy.dtype == np.float32
    assert first.labels.dtype == np.int64
    assert second.boxes_xyxy.shape == (0, 4)
    assert second.labels.shape == (0,)
    assert parsed.category_ids == [1, 2, 3]


def test_boxes_partly_outside_are_clipped_for_training_only(tmp_path):
    # 1 % of the width is 6.4 px, of the height 1 px, so 2 px there.
    outside = [-6.4, -2, 640 + 12.8, 104]
    parsed = parse(tmp_path, add_box(make_file(), bbox=outside, area=7))
    np.testing.assert_array_equal(parsed.images[0].boxes_xyxy[1], np.float32([0, 0, 640, 100]))
    assert parsed.notes["clipped"] == 1
    assert parsed.ground_truth["annotations"][1]["bbox"] == outside
    assert parsed.ground_truth["annotations"][1]["area"] == 7


def test_crowds_stay_in_evaluation_only(tmp_path):
    parsed = parse(tmp_path, add_box(make_file(), iscrowd=1))
    assert parsed.images[0].labels.tolist() == [0]
    assert [(a["id"], a["iscrowd"]) for a in parsed.ground_truth["annotations"]] == [(1, 0), (2, 1)]
    assert parsed.notes["crowd"] == 1


def test_stray_categories_are_dropped_by_name_and_counted(tmp_path):
    data = make_file()
    data["categories"].insert(0, {"id": 18, "name": "dog"})
    parsed = parse(tmp_path, add_box(add_box(data, category_id=18), category_id=3))
    assert parsed.notes["dropped_dog"] == 1
    assert parsed.images[0].labels.tolist() == [0, 2]
    assert [a["category_id"] for a in parsed.ground_truth["annotations"]] == [1, 3]
    assert [c["id"] for c in parsed.ground_truth["categories"]] == [1, 2, 3]


def test_class_and_its_alias_become_one(tmp_path):
    data = make_file()
    data["categories"].append({"id": 7, "name": "bike"})
    parsed = parse(tmp_path, add_box(add_box(data, category_id=7), category_id=2))
    assert parsed.images[0].labels.tolist() == [0, 1, 1]
    assert [a["category_id"] for a in parsed.ground_truth["annotations"]] == [1, 2, 2]


def test_ground_truth_is_complete_where_the_file_is_not(tmp_path):
    data = make_file()
    for key in ("area", "iscrowd", "id"):
        del data["annotations"][0][key]
    truth = parse(tmp_path, data).ground_truth
    assert truth["info"] == {}
    expected = {"id": 1, "image_id": "a", "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}
    assert truth["annotations"] == [expected]


def test_scene_is_kept_where_there_is_one(tmp_path):
    data = make_file()
    data["images"][1]["scene"] = "warm noon"
    first, second = parse(tmp_path, data).ground_truth["images"]
    assert "scene" not in first
    assert second == {"id": "b", "file_name": "b.jpg", "width": 640, "height": 100, "scene": "warm noon"}


@pytest.mark.parametrize(("info", "kept"), [({"hash": "1a"}, {"hash": "1a"}), ("made by hand", {}), (None, {})])
def test_info(tmp_path, info, kept):
    assert parse(tmp_path, {**make_file(), "info": info}).ground_truth["info"] == kept


def test_integer_ids(tmp_path):
    data = make_file()
    data["images"][0]["id"], data["images"][1]["id"], data["annotations"][0]["image_id"] = 0, 1, 1
    parsed = parse(tmp_path, data)
    assert [(image.image_id, len(image.labels)) for image in parsed.images] == [(0, 0), (1, 1)]


def edited(*keys, value):
    """Make a file in which the entry at `keys` has `value`, or is missing when that is None."""
    data = make_file()
    place = data
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return data


BBOX = ("annotations", 0, "bbox")
FAULTS = {
    "empty": ("", "empty file"),
    "not JSON": ("<xml/>", "line 1, column 1"),
    "cut": (json.dumps(make_file())[:-20], "whole COCO JSON"),
    "no object": ("[1, 2]", "[1, 2]"),
    "no images": (edited("images", value=None), "images: expected a list of objects, found no such field"),
    "images empty": (edited("images", value=[]), "at least one image"),
    "no annotations": (edited("annotations", value=None), "annotations: expected a list"),
    "no categories": (edited("categories", value=None), "categories: expected a list"),
    "images of numbers": (edited("images", value=[1]), "images: expected a list of objects, found [1]"),
    "no width": (edited("images", 1, "width", value=None), "images[1].width"),
    "height text": (edited("images", 0, "height", value="512"), "images[0].height: expected a positive integer"),
    "no file name": (edited("images", 0, "file_name", value=None), "images[0].file_name"),
    "id is a list": (edited("images", 0, "id", value=[1]), "images[0].id"),
    "scene empty": (edited("images", 1, "scene", value=""), "images[1].scene: expected a non-empty string, found ''"),
    "scene number": (edited("images", 0, "scene", value=3), "images[0].scene: expected a non-empty string, found 3"),
    "ids of two types": (edited("images", 1, "id", value=3), "images[1].id: expected str"),
    "image id twice": (edited("images", 1, "id", value="a"), "images[1].id: expected each id once, found 'a'"),
    "file name twice": (edited("images", 1, "file_name", value="a.jpg"), "images[1].file_name: expected each"),
    "category id twice": (edited("categories", 1, "id", value=1), "categories[1].id: expected each id once, found 1"),
    "category id text": (edited("categories", 1, "id", value="1"), "categories[1].id: expected an integer, found '1'"),
    "category without name": (edited("categories", 1, "name", value=None), "categories[1].name"),
    "class missing": (edited("categories", 1, "name", value="dog"), "bike, car, found person, dog, car"),
    "unknown category": (edited("annotations", 0, "category_id", value=9), "expected one of [1, 2, 3], found 9"),
    "unknown image": (edited("annotations", 0, "image_id", value="z"), "annotations[0].image_id"),
    "no image id": (edited("annotations", 0, "image_id", value=None), "annotations[0].image_id"),
    "no bbox": (edited(*BBOX, value=None), "annotations[0].bbox: expected [x, y, width, height]"),
    "bbox of three": (edited(*BBOX, value=[1, 2, 3]), "found [1, 2, 3]"),
    "crowd in words": (edited("annotations", 0, "iscrowd", value="0"), "annotations[0].iscrowd: expected 0 or 1"),
    "crowd of two": (edited("annotations", 0, "iscrowd", value=2), "found 2"),
    "negative area": (edited("annotations", 0, "area", value=-5), "annotations[0].area: expected a number from 0"),
    "area in words": (edited("annotations", 0, "area", value="big"), "found 'big'"),
    "thousands of digits": ('{"images": ' + "9" * 5000 + "}", "expected COCO JSON"),
    "bbox beyond all numbers": (edited(*BBOX, value=[1, 2, 10**400, 4]), "finite"),
    "width beyond all numbers": (edited("images", 0, "width", value=10**400), "images[0].width"),
    "id beyond all numbers": (edited("categories", 0, "id", value=10**400), "categories[0].id"),
    "bbox not finite": (edited(*BBOX, value=[1, 2, float("nan"), 4]), "finite"),
    "negative size": (edited(*BBOX, value=[10, 10, 4, -5]), "above 0"),
    "no overlap": (edited(*BBOX, value=[640, 10, 2, 5]), "overlaps its image"),
    "no overlap, above": (edited(*BBOX, value=[6, -5, 2, 5]), "overlaps its image"),
    "far out, 1 % of the side": (edited(*BBOX, value=[600, 10, 46.5, 5]), "at most 6.4 px outside"),
    "far out, 2 px": (edited(*BBOX, value=[600, 90, 10, 12.1]), "at most 2 px outside"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_line_that_names_the_file(tmp_path, name):
    data, expected = FAULTS[name]
    with pytest.raises(UserError) as error:
        parse(tmp_path, data)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'flir.json'}: ")
    assert expected in message
    assert "\n" not in message


def test_boxes_without_size_are_left_out_and_counted(tmp_path):
    parsed = parse(tmp_path, add_box(add_box(make_file(), bbox=[10, 10, 0, 5]), bbox=[10, 10, 5, 1e-30]))
    assert (parsed.notes["boxes"], parsed.notes["empty"]) == (1, 2)
    assert len(parsed.images[0].labels) == len(parsed.ground_truth["annotations"]) == 1
    assert "annotations[1].bbox: [10, 10, 0, 5] in a.jpg" in parsed.warnings[0]


def test_the_same_box_twice_is_kept_and_remarked(tmp_path):
    parsed = parse(tmp_path, add_box(add_box(make_file(), category_id=3), id=5))
    assert len(parsed.images[0].labels) == 3
    assert len(parsed.warnings) == 1
    assert "annotations[2].bbox" in parsed.warnings[0]
    assert "the same person again" in parsed.warnings[0]


def test_faults_are_handed_on_one_by_one(tmp_path):
    data = add_box(add_box(add_box(make_file(), category_id=9), bbox=[900, 0, 5, 5]), image_id="b")
    data["images"].append({"id": "c", "file_name": "c.jpg", "width": 0, "height": 5})
    (tmp_path / "flir.json").write_text(json.dumps(add_box(data, image_id="c")))
    faults = []
    parsed = parse_coco(tmp_path / "flir.json", CLASSES, ALIASES, faults.append)
    assert [str(f).partition("json: ")[2].partition(":")[0] for f in faults] == [
        "images[2].width", "annotations[1].category_id", "annotations[2].bbox",
    ]  # fmt: skip
    assert [len(image.labels) for image in parsed.images] == [1, 1]


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match="COCO annotation file"):
            parse_coco(path, CLASSES, ALIASES)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "flir.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match="UTF-8"):
        parse_coco(tmp_path / "flir.json", CLASSES, ALIASES)
