"""M3FD: its lists and classes, and what is told where a folder or list is missing."""

import shutil

import pytest

from datasets.detection.opening import open_data_set
from tests.tiny_sets import make_tiny_m3fd
from utils.errors import UserError

THREE = {"train": "train", "val": "val", "test": "test"}


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ({"train": "train", "test": "val"}, {"train": 12, "test": 4}),
        ({"train": "train", "test": "test"}, {"train": 12, "test": 4}),
        (THREE, {"train": 12, "val": 3, "test": 4}),
    ],
)
def test_lists(tmp_path, words, sizes):
    data = open_data_set(make_tiny_m3fd(tmp_path, words), "m3fd")
    assert data.classes == ["people", "car", "bus", "motorcycle", "lamp", "truck"]
    assert data.category_ids == [1, 3, 4, 2, 5, 6]
    assert {origin: len(records) for origin, records in data.records.items()} == sizes
    assert data.records["train"][0].paths["rgb"] == str(tmp_path / "Vis" / "000001.jpg")
    assert data.records["train"][0].paths["thermal"] == str(tmp_path / "Ir" / "000001.jpg")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("Vis", r"expected M3FD's folders Ir, Vis and meta, found no Vis .for an own set"),
        ("meta", r"expected M3FD's folders Ir, Vis and meta, found no meta .for an own set"),
        (
            "meta/m3fd_train.json",
            r"meta: expected \*train\*.json, and \*test\*.json or .*, found m3fd_val.json .for an",
        ),
    ],
)
def test_faults(tmp_path, missing, words):
    path = make_tiny_m3fd(tmp_path) / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=words) as error:
        open_data_set(tmp_path, "m3fd")
    assert "\n" not in str(error.value)
