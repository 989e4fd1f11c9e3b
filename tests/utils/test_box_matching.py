"""Matching agrees with pycocotools."""

import random

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.box_matching import match


@pytest.mark.parametrize("seed", range(20))
def test_matching_agrees_with_pycocotools(seed):
    draws = random.Random(seed)

    def box() -> list[float]:
        return [draws.uniform(0, 30), draws.uniform(0, 30), draws.uniform(8, 30), draws.uniform(8, 30)]

    truth = [
        {"id": i, "image_id": 1, "category_id": draws.choice((1, 2)), "bbox": box(), "iscrowd": int(i > 6)}
        for i in range(1, 9)
    ]
    truth = [item | {"area": item["bbox"][2] * item["bbox"][3]} for item in truth]
    found = []
    for _ in range(15):
        near = draws.choice(truth)
        bbox = [v + draws.uniform(-3, 3) for v in near["bbox"]]
        label = near["category_id"] if draws.random() < 0.8 else 3 - near["category_id"]
        found.append({"image_id": 1, "category_id": label, "bbox": bbox, "score": draws.random()})
    coco = COCO()
    coco.dataset = {"images": [{"id": 1}], "annotations": truth, "categories": [{"id": 1}, {"id": 2}]}
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes([dict(item) for item in found]), "bbox")
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.evaluate()
    images = [image for image in evaluation.evalImgs if image]
    right = {s: bool(m) for e in images for s, m, i in zip(e["dtScores"], e["dtMatches"][0], e["dtIgnore"][0]) if not i}
    ours = match(truth, found)
    assert {d["score"]: r for d, r in zip(ours.detections, ours.right)} == right
    num_found = sum(m > 0 and not i for e in images for m, i in zip(e["gtMatches"][0], e["gtIgnore"]))
    assert (sum(ours.found), len(ours.found)) == (num_found, 6)
    assert ours.score == sum(right.values()) - list(right.values()).count(False)


def test_matching_nothing():
    truth = [{"category_id": 1, "bbox": [0, 0, 5, 5]}]
    assert match(truth, []).found == [False]
    assert match([], [{"category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}]).right == [False]
    assert match([], []).score == 0
