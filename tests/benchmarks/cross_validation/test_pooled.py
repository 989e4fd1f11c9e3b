"""AP over all folds: equal to pycocotools on images that are repeated as they are drawn."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cross_validation.pooled import Truth, interval
from datasets.folds import make_blocks
from utils.coco_eval import Scoring

CLASSES = ("person", "bike", "car")
FOLDS = 3


def draw_box(draws: random.Random) -> list[float]:
    return [draws.uniform(0, 60), draws.uniform(0, 60), draws.uniform(8, 40), draws.uniform(8, 40)]


def draw(seed: int, num_images: int = 12) -> tuple[dict, list[dict]]:
    """Draw objects, a crowd among them, and detections; some are right, some of two images score the same."""
    draws, annotations, detections = random.Random(seed), [], []
    images = [{"id": f"v{n:03d}.jpg", "width": 100, "height": 100} for n in range(0, 20 * num_images, 20)]
    for image in images:
        for _ in range(draws.randint(0, 5)):
            box, category = draw_box(draws), draws.choice((1, 3))
            item = {"image_id": image["id"], "category_id": category, "bbox": box, "area": box[2] * box[3]}
            annotations.append(item | {"id": len(annotations) + 1, "iscrowd": int(draws.random() < 0.1)})
            shifted = [value + draws.uniform(-3, 3) for value in box]
            scored_alike = {d["score"] for d in detections if d["image_id"] == image["id"]}
            score = draws.choice([s for s in (0.5, 0.9) if s not in scored_alike] + [draws.random()])
            detections.append({"image_id": image["id"], "category_id": category, "bbox": shifted, "score": score})
        for _ in range(draws.randint(0, 4)):
            found = {"image_id": image["id"], "category_id": draws.choice((1, 2, 3)), "bbox": draw_box(draws)}
            detections.append(found | {"score": draws.random()})
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, 1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}, detections


def repeated(truth: dict, detections: list[dict], counts: list[int]) -> float:
    """Return pycocotools' AP of the images, each as often as it is counted."""
    images, annotations, found, drawn = [], [], [], []
    for image, count in zip(truth["images"], counts, strict=True):
        for copy in range(count):
            name = f"{image['id']} {copy}"
            drawn.append(name)
            images.append(image | {"id": name})
            annotations += [a | {"image_id": name} for a in truth["annotations"] if a["image_id"] == image["id"]]
            found += [d | {"image_id": name} for d in detections if d["image_id"] == image["id"]]
    annotations = [item | {"id": n} for n, item in enumerate(annotations, 1)]
    ground_truth = truth | {"images": images, "annotations": annotations}
    return Scoring(ground_truth, found, drawn, [1, 2, 3], list(CLASSES)).numbers(by_area=False)["AP"]


def write(out: Path, truth: dict, detections: dict[str, list[dict]]) -> Truth:
    """Write what the folds leave: every third image is in the same fold."""
    for fold in range(1, FOLDS + 1):
        ids = [image["id"] for image in truth["images"][fold - 1 :: FOLDS]]
        images = [image for image in truth["images"] if image["id"] in ids]
        part = truth | {"images": images, "annotations": [a for a in truth["annotations"] if a["image_id"] in ids]}
        facts = {"ground_truth": part, "image_ids": ids, "file_names": ids, "category_ids": [1, 2, 3]}
        save(out / f"truth/fold{fold}.json", facts | {"classes": CLASSES})
        for method, items in detections.items():
            save(out / f"detections/{method}/fold{fold}.json", [d for d in items if d["image_id"] in ids])
    return Truth.read(out, FOLDS)


def save(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("seed", range(4))
def test_weighted_ap_is_that_of_repeated_images(tmp_path, seed):
    truth, detections = draw(seed)
    read = write(tmp_path, truth, {"sum": detections})
    pooled, order = read.pool(tmp_path, "sum"), [image["id"] for image in truth["images"]]
    draws = random.Random(seed)
    for counts in ([1] * 12, [draws.randint(0, 3) for _ in order], [3] + [0] * 10 + [1]):
        weights = np.array([counts[order.index(name)] for name in read.image_ids], dtype=float)
        expected = repeated(truth, detections, counts)
        assert pooled.score(weights) == pytest.approx(expected or 0.0, abs=1e-9), counts


def test_resamples_draw_whole_blocks(tmp_path):
    truth, _ = draw(0)
    names = [f"v{10 * n // 3:03d}.jpg" for n in range(12)]  # three in a row at a time
    renamed = dict(zip((image["id"] for image in truth["images"]), names))
    truth["images"] = [image | {"id": renamed[image["id"]]} for image in truth["images"]]
    truth["annotations"] = [item | {"image_id": renamed[item["image_id"]]} for item in truth["annotations"]]
    read = write(tmp_path, truth, {})
    draws, blocks = read.resamples(50), make_blocks(names, FOLDS)
    assert draws.shape == (50, 12)
    assert len(blocks) < 12
    for block in blocks:
        places = [read.file_names.index(name) for name in block]
        assert (draws[:, places] == draws[:, places[:1]]).all()
    sizes = sorted(map(len, blocks))
    assert sizes[0] * len(blocks) <= draws.sum(axis=1).min() <= draws.sum(axis=1).max() <= sizes[-1] * len(blocks)


def test_a_fold_that_is_missing_gives_no_pooled_score(tmp_path):
    truth, detections = draw(0)
    read = write(tmp_path, truth, {"sum": detections})
    assert read.pool(tmp_path, "rgb") is None
    (tmp_path / "truth/fold2.json").unlink()
    assert Truth.read(tmp_path, FOLDS) is None


def test_interval():
    assert interval(list(range(101))) == pytest.approx((2.5, 97.5))
