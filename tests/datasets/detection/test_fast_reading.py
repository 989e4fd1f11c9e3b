"""What reads COCO's 860,000 boxes quickly takes the same as what explains faults, entry by entry."""

import gc
import itertools
import json
from pathlib import PureWindowsPath

import numpy as np
import pytest

from datasets.detection.annotations import PLAIN_NAME, Box, _clip, _is_empty, is_file_name
from datasets.detection.coco_json import _fits, _read_box, parse_coco
from datasets.detection.opening import open_data_set
from datasets.detection.sources import _stem, without_suffix
from tests.tiny_sets import make_tiny_coco
from utils.errors import UserError

GOOD = {"image_id": 7, "category_id": 2, "bbox": [1, 2.5, 30, 4], "area": 20.5, "iscrowd": 0}
ODD = [
    None,
    True,
    False,
    0,
    1,
    2,
    -1,
    7,
    7.0,
    "7",
    "",
    1.5,
    float("nan"),
    float("inf"),
    2**53,
    -(2**53),
    [],
    {},
    [1, 2],
]
IMAGES, NAMES = {7: {}, "7": {}}, {2: "person", 0: "car"}


def items() -> list[dict]:
    """Return entries with each odd value in each field, and in each place of the box, and without each field."""
    found = [GOOD] + [{key: GOOD[key] for key in GOOD if key != field} for field in GOOD]
    for field, value in itertools.product(GOOD, ODD):
        found.append(GOOD | {field: value})
    for place, value in itertools.product(range(4), ODD):
        found.append(GOOD | {"bbox": [value if place == at else number for at, number in enumerate(GOOD["bbox"])]})
    return [*found, GOOD | {"bbox": [1, 2, 3]}, GOOD | {"bbox": (1, 2, 3, 4)}]


def test_an_entry_that_fits_at_first_sight_is_one_that_is_taken():
    taken = 0
    for item in items():
        if _fits(item, IMAGES, NAMES):
            box = _read_box("place", item, NAMES)
            assert (box.image_id, box.bbox, box.area) == (item["image_id"], item["bbox"], item.get("area"))
            assert box.image_id in IMAGES
            taken += 1
    assert _fits(GOOD, IMAGES, NAMES)
    assert taken >= 20


def test_a_sound_box_is_its_own_clipped_one():
    draws, image = np.random.default_rng(0), {"file_name": "a.jpg", "width": 64, "height": 48}
    for x, y, width, height in (draws.integers(-4, 66, (3000, 4)) / 2).tolist():
        box = Box("place", "bbox", 1, "person", [x, y, width, height], False, None)
        corners = np.array([x, y, x + width, y + height])
        outside = np.maximum(-corners[:2], corners[2:] - (64, 48)).max()
        if min(width, height) > 0 and (corners[:2] < (64, 48)).all() and (corners[2:] > 0).all() and outside <= 2:
            assert _clip(box, image) == tuple(corners.clip(0, [64, 48, 64, 48]))
        elif min(width, height) != 0:
            with pytest.raises(UserError):
                _clip(box, image)
        x1, y1, x2, y2 = corners.astype(np.float32)
        assert _is_empty(box.bbox) == (min(width, height) >= 0 and bool(x1 == x2 or y1 == y2))


@pytest.mark.parametrize("bbox", [[65535.0, 0, 1, 1], [0, 65535, 1, 0.001], [4e6, 0, 1, 1], [2.0**30, 5, 1, 1]])
def test_boxes_too_thin_for_float32_are_empty(bbox):
    x, y, width, height = np.array(bbox)
    thin = np.float32(x) == np.float32(x + width) or np.float32(y) == np.float32(y + height)
    assert _is_empty(bbox) == thin


@pytest.mark.parametrize("name", [
    "000001.jpg", "a", "-", ".", "..", ".a.jpg", "a..jpg", "..jpg", "a b.png", "a/b.tif", "a//b.jpg", "./a.jpg",
    "a.", "a.jpeg.jpg", "A.JPG", "a.tar.gz", "c:a.jpg", "a\\b.jpg", "\u00e4.jpg", "x" * 201 + ".jpg", "x" * 256, "a\n",
    "/a.jpg",
])  # fmt: skip
def test_names_at_first_sight(name):
    parts = name.split("/")
    short = all(len(part.encode()) <= 255 and not part.startswith("..") for part in parts)
    assert is_file_name(name) == (short and "\\" not in name and not PureWindowsPath(name).anchor)
    assert not PLAIN_NAME.fullmatch(name) or is_file_name(name)
    assert not is_file_name(name) or _stem(name) == str(without_suffix(name))


def test_masks_are_not_kept_and_the_collector_goes_on(tmp_path):
    folder = make_tiny_coco(tmp_path)
    path = folder / "annotations/instances_train2017.json"
    plain = parse_coco(path, [], {})
    content = json.loads(path.read_text())
    for item in content["annotations"]:
        item["segmentation"] = [[1.5] * 20]
    path.write_text(json.dumps(content))
    assert parse_coco(path, [], {}).ground_truth == plain.ground_truth
    open_data_set(folder, "coco")
    assert gc.isenabled()
