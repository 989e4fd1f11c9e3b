"""AP against hand-made cases and against pycocotools reading the written file."""

import contextlib
import io
import json

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_convert

from datasets.detection.opening import open_data_set
from tests.tiny_data import make_tiny_flir
from utils.coco_eval import Scoring, to_coco_detections

NAMES = ["person", "bike", "car"]


@pytest.fixture(params=[True, False], ids=["string ids", "integer ids"])
def data(tmp_path, request):
    return open_data_set(make_tiny_flir(tmp_path, num_train=10, num_test=8, string_ids=request.param))


def as_found(record, noise: float = 0.0, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(record.boxes_xyxy)
    boxes = boxes + noise * torch.randn(boxes.shape, generator=generator)
    scores = torch.rand(len(boxes), generator=generator)
    return {"boxes_xyxy": boxes, "scores": scores, "labels": torch.tensor(record.labels)}


def evaluate(data, detections, records) -> dict:
    image_ids = [record.image_id for record in records]
    results = to_coco_detections(detections, image_ids, data.category_ids)
    return Scoring(data.ground_truth["test"], results, image_ids, data.category_ids, data.classes).numbers()


def test_perfect_detections(data, capsys):
    records = data.records["test"]
    numbers = evaluate(data, [as_found(record) for record in records], records)
    for name in ("AP", "AP50", "AP75", "AR100", *(f"AP_{n}" for n in NAMES), *(f"AP50_{n}" for n in NAMES)):
        assert numbers[name] == pytest.approx(1.0), name
    assert numbers["AP_large"] is None, "no object of the tiny set has 96 x 96 px"
    assert numbers["LAMR_person"] == pytest.approx(1e-10)
    assert [name for name in numbers if name.startswith("LAMR")] == ["LAMR_person"]
    assert capsys.readouterr().out == ""


def test_no_detections(data):
    records = data.records["test"]
    nothing = {"boxes_xyxy": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    numbers = evaluate(data, [nothing] * len(records), records)
    assert numbers["AP"] == numbers["AR100"] == numbers["AP50_car"] == 0.0
    assert numbers["AP_large"] is None
    assert numbers["LAMR_person"] == 1.0


def test_part_of_the_images_counts_alone(data):
    records = data.records["test"]
    good, bad = as_found(records[0]), {**as_found(records[1]), "labels": (torch.tensor(records[1].labels) + 1) % 3}
    assert evaluate(data, [good], records[:1])["AP"] == pytest.approx(1.0)
    both = to_coco_detections([good, bad], [r.image_id for r in records[:2]], data.category_ids)
    ids = [records[0].image_id]
    numbers = Scoring(data.ground_truth["test"], both, ids, data.category_ids, data.classes).numbers()
    assert numbers["AP"] == pytest.approx(1.0)


def test_absent_class_is_none(data):
    record = next(record for record in data.records["test"] if len(set(record.labels.tolist())) < 3)
    numbers = evaluate(data, [as_found(record)], [record])
    for channel, name in enumerate(NAMES):
        assert (numbers[f"AP_{name}"] is None) == (channel not in record.labels)
    nobody = next(record for record in data.records["test"] if 0 not in record.labels)
    assert evaluate(data, [as_found(nobody)], [nobody])["LAMR_person"] is None


def test_exact_hand_made_case():
    # Two objects; scores order hit, miss, hit. Precision 1 up to recall 1/2 (51 of 101 points), then 2/3 (50 points).
    truth = {
        "images": [{"id": 0, "width": 100, "height": 100}],
        "categories": [{"id": 5, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 5, "bbox": [0, 0, 40, 40], "area": 1600, "iscrowd": 0},
            {"id": 2, "image_id": 0, "category_id": 5, "bbox": [50, 50, 40, 40], "area": 1600, "iscrowd": 0},
        ],
    }
    boxes = torch.tensor([[0.0, 0, 40, 40], [0, 60, 30, 90], [50, 50, 90, 90]])
    found = {"boxes_xyxy": boxes, "scores": torch.tensor([0.9, 0.8, 0.7]), "labels": torch.zeros(3, dtype=torch.int64)}
    before = json.dumps(truth)
    numbers = Scoring(truth, to_coco_detections([found], [0], [5]), [0], [5], ["car"]).numbers()
    assert numbers["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert numbers["AP_car"] == numbers["AP"]
    assert numbers["AP_small"] is None
    assert json.dumps(truth) == before


def test_written_file_gives_the_same_numbers_by_hand(data, tmp_path):
    records = data.records["test"]
    image_ids = [record.image_id for record in records]
    noisy = [as_found(record, noise=1.5, seed=i) for i, record in enumerate(records)]
    results = to_coco_detections(noisy, image_ids, data.category_ids)
    before = json.dumps(results)
    ours = Scoring(data.ground_truth["test"], results, image_ids, data.category_ids, data.classes).numbers()
    assert json.dumps(results) == before
    (tmp_path / "detections.json").write_text(before)
    (tmp_path / "truth.json").write_text(json.dumps(data.ground_truth["test"]))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "truth.json"))
        by_hand = COCOeval(truth, truth.loadRes(str(tmp_path / "detections.json")), "bbox")
        by_hand.evaluate()
        by_hand.accumulate()
        by_hand.summarize()
    assert 0.1 < ours["AP"] < 0.99
    assert [ours["AP"], ours["AP50"], ours["AP75"], ours["AR100"]] == [by_hand.stats[i] for i in (0, 1, 2, 8)]
    classes = [ours[f"AP_{name}"] for name in NAMES]
    assert sum(classes) / 3 == pytest.approx(ours["AP"])


def noisy_results(data, origin: str = "test") -> tuple[list[dict], list]:
    records = data.records[origin]
    image_ids = [record.image_id for record in records]
    noisy = [as_found(record, noise=1.5, seed=i) for i, record in enumerate(records)]
    return to_coco_detections(noisy, image_ids, data.category_ids), image_ids


def test_without_areas_the_other_numbers_stay(data):
    results, image_ids = noisy_results(data)
    args = data.ground_truth["test"], results, image_ids, data.category_ids, data.classes
    all_numbers, fewer = Scoring(*args).numbers(), Scoring(*args).numbers(by_area=False)
    assert fewer == {k: v for k, v in all_numbers.items() if k not in ("AP_small", "AP_medium", "AP_large")}
    assert len(fewer) == len(all_numbers) - 3


SCENES = ("night", "day", "warm noon")


def test_by_scene_is_the_evaluation_of_its_images(tmp_path):
    data = open_data_set(make_tiny_flir(tmp_path, num_train=5, num_test=15, scenes=SCENES))
    results, image_ids = noisy_results(data)
    truth = data.ground_truth["test"]
    del truth["images"][4]["scene"]  # counts in no scene
    image_ids = image_ids[:-1]  # not evaluated
    numbers = Scoring(truth, results, image_ids, data.category_ids, data.classes).by_scene()
    expected = {}
    for scene in sorted(SCENES):
        ids = [i["id"] for i in truth["images"] if i.get("scene") == scene and i["id"] in image_ids]
        alone = [found for found in results if found["image_id"] in ids]
        apart = Scoring(truth, alone, ids, data.category_ids, data.classes).numbers()
        expected |= {f"AP_scene_{scene}": apart["AP"], f"AP50_scene_{scene}": apart["AP50"]}
        expected[f"pairs_scene_{scene}"] = len(ids)
    assert list(numbers.items()) == list(expected.items())
    assert sum(numbers[f"pairs_scene_{scene}"] for scene in SCENES) == 13
    assert len({numbers[f"AP_scene_{scene}"] for scene in SCENES}) == 3


def test_by_scene_without_scenes_is_empty(data):
    results, image_ids = noisy_results(data)
    assert Scoring(data.ground_truth["test"], results, image_ids, data.category_ids, data.classes).by_scene() == {}


def test_scene_with_nothing_to_find_is_none(tmp_path):
    data = open_data_set(make_tiny_flir(tmp_path, num_train=5, scenes=SCENES))
    truth = data.ground_truth["train"]
    empty = {image["id"] for image in truth["images"]} - {box["image_id"] for box in truth["annotations"]}
    numbers = Scoring(truth, [], [*empty], data.category_ids, data.classes).by_scene()
    assert numbers == {"AP_scene_warm noon": None, "AP50_scene_warm noon": None, "pairs_scene_warm noon": 1}


def test_coco_form():
    boxes = torch.tensor([[1.23456, 2.0, 11.23456, 22.0], [0, 0, 5, 5]])
    found = {"boxes_xyxy": boxes, "scores": torch.tensor([0.12345678, 0.5]), "labels": torch.tensor([1, 89])}
    (entry,) = to_coco_detections([found], ["x"], [1, 2, 3])
    assert entry == {"image_id": "x", "category_id": 2, "bbox": [1.235, 2.0, 10.0, 20.0], "score": 0.123457}
    back = box_convert(torch.tensor([entry["bbox"]]), "xywh", "xyxy")
    torch.testing.assert_close(back[0], boxes[0], atol=1e-3, rtol=0)
    json.dumps(entry)
