"""Folds of a data set: its lists merged, one fold tested on, and its ground truth with it."""

import json

import pytest

from datasets.data_module import LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from tests.tiny_data import make_tiny_flir
from tests.tiny_sets import make_tiny_voc
from utils.errors import UserError

FOLDS = 3


def open_fold(folder, fold=None, **options):
    options |= {"folds": FOLDS, "fold": fold} if fold else {}
    return open_data(str(folder), "flir_aligned", ImageOptions(), LoaderOptions(2), **options)


@pytest.fixture(scope="module")
def three_lists(tmp_path_factory):
    """Train, val and test lists whose image ids are numbers, and begin at 1 in each of them."""
    folder = tmp_path_factory.mktemp("lists")
    make_tiny_flir(folder, string_ids=False, layout="1 in three", step=20)
    for path in folder.glob("*/flir.json"):
        content = json.loads(path.read_text())
        ids = {image["id"]: number for number, image in enumerate(content["images"], 1)}
        images = [image | {"id": ids[image["id"]]} for image in content["images"]]
        annotations = [item | {"image_id": ids[item["image_id"]]} for item in content["annotations"]]
        path.write_text(json.dumps(content | {"images": images, "annotations": annotations}))
    return folder


def boxes(truth: dict) -> dict[str, list]:
    """Return the boxes by file name."""
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    found: dict[str, list] = {name: [] for name in names.values()}
    for item in truth["annotations"]:
        found[names[item["image_id"]]].append((item["category_id"], *item["bbox"]))
    return found


def test_each_pair_is_tested_on_in_one_fold_with_its_own_boxes(three_lists):
    lists = open_fold(three_lists).data
    every = {name: found for truth in lists.ground_truth.values() for name, found in boxes(truth).items()}
    tested: dict[str, list] = {}
    for fold in range(1, FOLDS + 1):
        module = open_fold(three_lists, fold)
        test, learned = boxes(module.data.ground_truth["test"]), boxes(module.data.ground_truth["train"])
        assert not set(test) & (set(learned) | set(tested))
        assert set(test) | set(learned) == set(every)
        assert {record.file_name for record in module.records("test")} == set(test)
        assert {name for part in module.split.parts.values() for name in part} == set(learned)
        assert {**test, **learned} == every
        assert all(record.image_id == record.file_name for record in module.records("train", "val", "test"))
        assert all(module.list_of(part) == "train" for part in ("train", "arch", "val"))
        assert any(f"fold {fold} of 3: " in warning for warning in module.data.warnings)
        tested |= test
    assert tested == every


def test_folds_have_splits_of_their_own_and_other_seeds_the_same_test_list(three_lists):
    modules = [open_fold(three_lists, fold) for fold in (1, 2, 3)]
    assert len({module.split.hash for module in [*modules, open_fold(three_lists)]}) == 4
    other = open_fold(three_lists, 1, split_seed=1)
    assert [r.file_name for r in other.records("test")] == [r.file_name for r in modules[0].records("test")]
    assert other.split.hash != modules[0].split.hash


def test_neighbours_of_the_fold_are_not_learned_from(tmp_path):
    folder = make_tiny_flir(tmp_path, num_train=30, num_test=4)  # numbers 1 to 34, one video
    with pytest.raises(UserError, match=r"too few pairs \(3\)"):
        open_fold(folder, 3)  # the frames in the middle
    module = open_fold(folder, 1)
    numbers = {
        part: [int(r.file_name[5:10]) for r in module.records(part)] for part in ("train", "arch", "val", "test")
    }
    tested = numbers.pop("test")
    assert min(abs(a - b) for part in numbers.values() for a in part for b in tested) > 10
    (remark,) = [warning for warning in module.data.warnings if "fold 1 of 3" in warning]
    assert remark.endswith("not learned from: 10 neighbours")


def test_a_set_without_a_test_list_has_one_in_a_fold(tmp_path):
    folder = str(make_tiny_voc(tmp_path, {"train": 34}))
    whole, fold = (
        open_data(folder, "voc", ImageOptions(), LoaderOptions(2), **values).data
        for values in ({}, {"folds": 3, "fold": 1})
    )
    assert "test" not in whole.records
    assert any("no test list" in warning for warning in whole.warnings)
    assert len(fold.records["test"]) == 12
    assert not any("no test list" in warning for warning in fold.warnings)
