"""From data set to parts: an own val list, the published protocol, and lists that share pairs or number alike."""

import json
from pathlib import Path

import pytest
import torch

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from tests.tiny_data import make_tiny_flir
from utils.coco_eval import Scoring, to_coco_detections
from utils.errors import UserError

IMAGES, LOADING = ImageOptions((64, 80)), LoaderOptions(batch_size=2)
LISTS = {"train": "images_thermal_train_train", "val": "images_thermal_train_val", "test": "images_thermal_val"}


def open_tiny(folder: Path, paper: bool = False, seed: int = 0) -> DataModule:
    return open_data(str(folder), "flir_aligned", IMAGES, LOADING, seed, paper)


def numbers(parts: DataModule, *names: str) -> list[int]:
    return [int(record.file_name[5:10]) for record in parts.records(*names)]


def check_evaluable(parts: DataModule, part: str) -> None:
    """Each part's own boxes as detections get AP 1 from its ground truth, so records and ground truth agree."""
    records, ids = parts.records(part), [record.image_id for record in parts.records(part)]
    assert len(set(ids)) == len(ids)
    found = [
        {
            "boxes_xyxy": torch.tensor(record.boxes_xyxy),
            "scores": torch.ones(len(record.labels)),
            "labels": torch.tensor(record.labels),
        }
        for record in records
    ]
    results = to_coco_detections(found, ids, parts.data.category_ids)
    truth, names = parts.data.ground_truth[parts.list_of(part)], (parts.data.category_ids, parts.data.classes)
    assert Scoring(truth, results, ids, *names).numbers()["AP"] == pytest.approx(1)
    assert sum(len(record.labels) for record in records) == len(results) > 0


def edit(folder: Path, origin: str, change) -> None:
    path = folder / LISTS[origin] / "flir.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def number_alike(folder: Path) -> None:
    """Let the images of each list have the ids 1, 2, ..."""

    def from_one(content: dict) -> None:
        new = {image["id"]: number for number, image in enumerate(content["images"], 1)}
        for image in content["images"]:
            image["id"] = new[image["id"]]
        for box in content["annotations"]:
            box["image_id"] = new[box["image_id"]]

    for origin in LISTS:
        edit(folder, origin, from_one)


@pytest.fixture(params=["string ids", "integer ids", "numbered alike"])
def three_lists(tmp_path, request) -> Path:
    string_ids = request.param == "string ids"
    make_tiny_flir(tmp_path, 12, num_val=5, string_ids=string_ids, layout="1 in three", scenes=("day",))
    if request.param == "numbered alike":
        number_alike(tmp_path)
    return tmp_path


def test_own_val_list(three_lists):
    parts = open_tiny(three_lists)
    assert parts.split.protocol == "train/arch/val"
    assert parts.learning == ("train", "arch")
    assert sorted(numbers(parts, "train", "arch")) == [*range(1, 13)]
    assert (len(parts.records("train")), len(parts.records("arch"))) == (6, 6)
    assert numbers(parts, "val") == [13, 14, 15, 16, 17]
    assert numbers(parts, "test") == [18, 19, 20, 21]
    for part in ("train", "arch", "val", "test"):
        check_evaluable(parts, part)
    assert numbers(open_tiny(three_lists, seed=1), "val") == numbers(parts, "val")
    assert open_tiny(three_lists, seed=1).split.hash != parts.split.hash


def test_paper_protocol_gives_the_own_val_list_to_training(three_lists):
    parts = open_tiny(three_lists, paper=True)
    assert parts.split.protocol == "paper: test used as val"
    assert parts.learning == ("train",)
    assert numbers(parts, "train") == [*range(1, 18)]
    assert numbers(parts, "arch") == numbers(parts, "val") == numbers(parts, "test") == [18, 19, 20, 21]
    for part in ("train", "arch", "val", "test"):
        check_evaluable(parts, part)
    truth = parts.data.ground_truth[parts.list_of("train")]
    assert [box["id"] for box in truth["annotations"]] == [*range(1, len(truth["annotations"]) + 1)]
    assert {image["scene"] for image in truth["images"]} == {"day"}


@pytest.mark.parametrize("layout", ["1", "2"])
@pytest.mark.parametrize("paper", [False, True])
def test_two_lists(tmp_path, layout, paper):
    parts = open_tiny(make_tiny_flir(tmp_path, 12, layout=layout), paper)
    assert parts.data.records.keys() == {"train", "test"}
    assert sorted(numbers(parts, "train", *([] if paper else ["arch", "val"]))) == [*range(1, 13)]
    assert numbers(parts, "test") == [13, 14, 15, 16]
    for part in ("train", "arch", "val", "test"):
        check_evaluable(parts, part)


def test_layout_does_not_change_the_split(tmp_path):
    one, two = (open_tiny(make_tiny_flir(tmp_path / layout, 40, layout=layout)) for layout in ("1", "2"))
    assert one.split == two.split


def test_loader_reads_the_own_val_list(three_lists):
    parts = open_tiny(three_lists)
    ids = [i for batch in parts.loader("val", train=False) for i in batch["image_ids"]]
    assert ids == [record.image_id for record in parts.records("val")]


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize(("one", "other"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_lists_that_share_a_pair_are_refused(tmp_path, one, other, paper):
    make_tiny_flir(tmp_path, layout="1 in three")
    image = json.loads((tmp_path / LISTS[one] / "flir.json").read_text())["images"][2]
    edit(tmp_path, other, lambda content: content["images"].append(image))
    for modality, name in (("thermal", image["file_name"]), ("rgb", f"{image['file_name'][:10]}_RGB.jpg")):
        source, target = (tmp_path / LISTS[o].replace("thermal", modality) / "data" / name for o in (one, other))
        target.write_bytes(source.read_bytes())
    with pytest.raises(UserError, match=rf"disjoint {one} and {other} lists, found 1.*{image['file_name']}"):
        open_tiny(tmp_path, paper)
