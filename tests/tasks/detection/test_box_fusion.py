"""Late fusion of boxes against sums by hand: who is merged, scores, order, ids, and nothing to fuse."""

import random

import numpy as np
import pytest

from datasets.detection.dataset import DetectionRecord
from tasks.detection.box_fusion import fuse_detections
from tests import processes

CATEGORIES = [7, 3]  # ids of the class channels, in no order


def record(image_id, width: int = 100, height: int = 50) -> DetectionRecord:
    no_boxes = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return DetectionRecord(image_id, f"{image_id}.jpeg", {}, width, height, *no_boxes)


def box(image_id, bbox: list, score: float, category_id: int = 7) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def fuse(how: str, first: list, second: list, records: list | None = None) -> list:
    return fuse_detections(how, [first, second], records or [record("a")], CATEGORIES)


A, B = box("a", [10, 10, 40, 20], 0.9), box("a", [12, 10, 40, 24], 0.6)  # IoU 760 / 1000


def test_wbf_weighs_boxes_by_score():
    (one,) = fuse("wbf", [A], [B])
    assert (one["image_id"], one["category_id"]) == ("a", 7)
    assert one["score"] == pytest.approx((0.9 + 0.6) / 2)
    x1, y1, x2, y2 = ((0.9 * a + 0.6 * b) / 1.5 for a, b in zip((10, 10, 50, 30), (12, 10, 52, 34), strict=True))
    assert one["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=2e-3)
    assert fuse("wbf", [A], [B]) == fuse("wbf", [B], [A])  # both weigh the same


def test_nms_keeps_the_better_box_as_it_is():
    assert fuse("nms", [A], [B]) == fuse("nms", [B], [A]) == [A]


@pytest.mark.parametrize("how", ["nms", "wbf"])
def test_boxes_apart_and_of_other_classes_stay(how):
    apart, other = box("a", [60, 10, 30, 20], 0.8), box("a", [10, 10, 40, 20], 0.7, category_id=3)
    found = fuse(how, [A], [apart, other])
    share = {"nms": 1, "wbf": 0.5}[how]  # a box of one detector alone is half as sure in wbf
    assert [(d["category_id"], d["score"]) for d in found] == [(7, 0.9 * share), (7, 0.8 * share), (3, 0.7 * share)]
    for d, expected in zip(found, (A, apart, other), strict=True):
        assert d["bbox"] == pytest.approx(expected["bbox"], abs=2e-3)


@pytest.mark.parametrize(("how", "iou"), [("nms", 0.5), ("wbf", 0.55)])
def test_the_threshold(how, iou):
    for shift, boxes in ((-1, 1), (1, 2)):  # overlap of 40 x 20 boxes shifted to one pixel beside the threshold
        x = round(40 * (1 - iou) / (1 + iou)) + shift
        assert len(fuse(how, [A], [box("a", [10 + x, 10, 40, 20], 0.5)])) == boxes


@pytest.mark.parametrize("how", ["nms", "wbf"])
def test_one_detector_or_none_found_anything(how):
    assert fuse(how, [], []) == []
    for found in (fuse(how, [A], []), fuse(how, [], [A])):
        assert [d["bbox"] for d in found] == [pytest.approx(A["bbox"], abs=2e-3)]


@pytest.mark.parametrize("how", ["nms", "wbf"])
def test_boxes_without_area_and_at_the_border_pass_quietly(how, recwarn):
    flat, whole = box("a", [100, 5, 0, 20], 0.4), box("a", [0, 0, 100.001, 50], 0.3)
    found = fuse(how, [flat], [whole])
    assert [d["bbox"] for d in found][-1] == pytest.approx(whole["bbox"], abs=2e-3)
    assert not recwarn.list


@pytest.mark.parametrize("how", ["nms", "wbf"])
def test_images_keep_their_order_and_their_boxes(how):
    """Ids of both kinds, sizes that differ, lists in any order; an image without boxes is not there."""
    records = [record(5, 200, 50), record("b"), record(1, 60, 100)]
    first = [box(1, [0, 50, 30, 50], 0.2), box(5, [150, 0, 50, 50], 0.9, 3), box(1, [0, 0, 30, 40], 0.7)]
    second = [box(5, [0, 0, 50, 50], 0.95)]
    found = fuse(how, first, second, records)
    assert [(d["image_id"], d["category_id"]) for d in found] == [(5, 7), (5, 3), (1, 7), (1, 7)]
    for d, expected in zip(found, (second[0], first[1], first[2], first[0]), strict=True):
        assert d["bbox"] == pytest.approx(expected["bbox"], abs=6e-3)


@pytest.mark.parametrize("how", ["nms", "wbf"])
def test_at_most_a_hundred_boxes_the_best(how):
    draws = random.Random(0)
    boxes = [box("a", [10 * (i % 20), 10 * (i // 20), 8, 8], draws.random()) for i in range(160)]
    found = fuse(how, boxes[:80], boxes[80:], [record("a", 200, 80)])
    share = {"nms": 1, "wbf": 0.5}[how]
    best = sorted((d["score"] * share for d in boxes), reverse=True)[:100]
    assert [d["score"] for d in found] == pytest.approx(best, abs=1e-6)


def test_nms_against_a_loop():
    draws = random.Random(1)

    def some() -> list:
        corners = [(draws.uniform(0, 60), draws.uniform(0, 25)) for _ in range(40)]
        return [
            box("a", [x, y, draws.uniform(10, 40), draws.uniform(10, 25)], draws.random(), draws.choice(CATEGORIES))
            for x, y in corners
        ]

    def iou(a: list, b: list) -> float:
        width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        both = max(width, 0) * max(height, 0)
        return both / (a[2] * a[3] + b[2] * b[3] - both)

    first, second = some(), some()
    kept = []
    for d in sorted(first + second, key=lambda d: -d["score"]):
        if all(k["category_id"] != d["category_id"] or iou(k["bbox"], d["bbox"]) <= 0.5 for k in kept):
            kept.append(d)
    found = fuse("nms", first, second)
    assert 5 < len(kept) < 80
    assert [(d["category_id"], d["score"]) for d in found] == [(d["category_id"], round(d["score"], 6)) for d in kept]


def test_nobody_else_pays_for_the_library(tmp_path):
    code = "import sys, main_darts_found_flira; sys.exit('ensemble_boxes' in sys.modules or 'numba' in sys.modules)"
    assert processes.run(["-c", code], tmp_path, tmp_path / "log.txt") == (0, "")
