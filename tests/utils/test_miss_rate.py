"""Log-average miss rate: hand-made cases, and a greedy matcher that starts anew at each score threshold."""

import math
import random

import pytest

from utils.coco_eval import Scoring

ROUND = [10 ** (-2 + i / 4) for i in range(9)]


def make_truth(people: dict[int, list], num_images: int, crowds: dict[int, list] | None = None, name="person") -> dict:
    """Give a COCO dict; `people` and `crowds` are {image: boxes as [x, y, width, height]}."""
    annotations = []
    for flag, group in enumerate((people, crowds or {})):
        for image, boxes in group.items():
            for x, y, width, height in boxes:
                box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": flag}
                annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": 1, **box})
    images = [{"id": number, "width": 100, "height": 100} for number in range(num_images)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": name}]}


def detection(image: int, bbox: list, score: float) -> dict:
    return {"image_id": image, "category_id": 1, "bbox": bbox, "score": score}


def rate(truth: dict, detections: list[dict], name: str = "person") -> float | None:
    ids = [image["id"] for image in truth["images"]]
    return Scoring(truth, detections, ids, [1], [name]).numbers()[f"LAMR_{name}"]


def mean_log(rates: list[float]) -> float:
    return math.exp(sum(math.log(max(r, 1e-10)) for r in rates) / len(rates))


BOX, ELSEWHERE = [10, 10, 20, 40], [60, 50, 20, 40]


def test_perfect_and_nothing():
    truth = make_truth({0: [BOX], 1: [BOX, ELSEWHERE]}, 3)
    perfect = [detection(0, BOX, 0.5), detection(1, BOX, 0.9), detection(1, ELSEWHERE, 0.1)]
    assert rate(truth, perfect) == pytest.approx(1e-10)
    assert rate(truth, []) == 1.0
    assert rate(truth, [detection(2, BOX, 0.9)]) == 1.0


def test_nobody_to_find():
    assert rate(make_truth({}, 2), []) is None
    assert rate(make_truth({}, 2), [detection(0, BOX, 0.9)]) is None
    assert rate(make_truth({}, 2, crowds={0: [BOX]}), [detection(0, BOX, 0.9)]) is None


@pytest.mark.parametrize("name", ["person", "people", "pedestrian", "Person"])
def test_names_of_people(name):
    assert rate(make_truth({0: [BOX]}, 1, name=name), [], name) == 1.0


def test_curve_that_ends_before_a_point_keeps_its_last_value():
    # One of two people, no false positive: the miss rate is a half at all nine points.
    truth = make_truth({0: [BOX, ELSEWHERE]}, 1)
    assert rate(truth, [detection(0, BOX, 0.9)]) == pytest.approx(0.5)


def test_curve_that_begins_after_a_point_misses_all_before():
    # The best detection is wrong: over 10 images the curve begins at 0.1 per image, the fifth point (that included).
    truth = make_truth({0: [BOX, ELSEWHERE]}, 10)
    found = [detection(3, BOX, 0.9), detection(0, BOX, 0.8)]
    assert rate(truth, found) == pytest.approx(mean_log([1.0] * 4 + [0.5] * 5))


def test_each_point_takes_the_rate_at_its_own_side():
    # 4 people in 100 images: hit, miss, hit, 9 misses (0.1), hit, 90 misses (1.0), hit.
    truth = make_truth({i: [BOX] for i in range(4)}, 100)
    order = [0, -1, 1, *[-1] * 9, 2, *[-1] * 90, 3]
    found = [
        detection(hit if hit >= 0 else 10 + place % 90, BOX if hit >= 0 else ELSEWHERE, 1 - place / 200)
        for place, hit in enumerate(order)
    ]
    # False positives per image before the hits: 0, 0.01, 0.1, 1.0; points are 0.01, ..., 0.1, ..., 1.0.
    assert rate(truth, found) == pytest.approx(mean_log([0.5] * 4 + [0.25] * 4 + [0.0]))


def test_crowds_are_nobody_and_absorb_detections():
    # Two detections in the crowd are neither hits nor false positives; of two people elsewhere one is found after them.
    people = {0: [ELSEWHERE], 1: [ELSEWHERE]}
    truth = make_truth(people, 2, crowds={0: [[0, 0, 50, 50]]})
    found = [detection(0, BOX, 0.9), detection(0, [15, 5, 20, 30], 0.8), detection(0, ELSEWHERE, 0.7)]
    assert rate(truth, found) == pytest.approx(0.5)
    assert rate(make_truth(people, 2), found) == pytest.approx(mean_log([1.0] * 8 + [0.5]))


def test_equal_scores_go_together():
    # No threshold takes the hit alone, whichever is listed first.
    truth = make_truth({0: [BOX]}, 1)
    found = [detection(0, BOX, 0.9), detection(0, ELSEWHERE, 0.9)]
    for order in (found, found[::-1]):
        assert rate(truth, order) == pytest.approx(mean_log([1.0] * 8 + [0.0]))


def overlap(one: list, other: list) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def match_greedily(people: list, found: list[dict]) -> int:
    """Count hits of one image: best score first, each takes the free person it overlaps most, by a half or more."""
    free, hits = list(people), 0
    for item in sorted(found, key=lambda item: -item["score"]):
        best = max(free, key=lambda box: overlap(box, item["bbox"]), default=None)
        if best is not None and overlap(best, item["bbox"]) >= 0.5:
            free.remove(best)
            hits += 1
    return hits


def brute_force(people: dict[int, list], num_images: int, found: list[dict]) -> float:
    curve = [(0.0, 1.0)]
    for threshold in {item["score"] for item in found}:
        accepted = [item for item in found if item["score"] >= threshold]
        per_image = [[item for item in accepted if item["image_id"] == i] for i in range(num_images)]
        hits = sum(match_greedily(people.get(i, []), items) for i, items in enumerate(per_image))
        missed = 1 - hits / sum(map(len, people.values()))
        curve.append(((len(accepted) - hits) / num_images, missed))
    return mean_log([min(missed for fppi, missed in curve if fppi <= point * (1 + 1e-9)) for point in ROUND])


def draw_case(seed: int) -> tuple[dict[int, list], int, list[dict]]:
    """Draw people by image, the number of images, and detections near them and elsewhere; some scores are equal."""
    draws = random.Random(seed)
    num_images = draws.choice([1, 5, 20, 100])
    people, found = {0: [BOX]}, []
    for image in range(num_images):
        people.setdefault(image, []).extend(
            [draws.uniform(0, 60), draws.uniform(0, 40), draws.uniform(10, 25), draws.uniform(20, 50)]
            for _ in range(draws.randint(0, 4))
        )
        near = [[v + draws.gauss(0, 3) for v in box] for box in people[image] if draws.random() < 0.8]
        far = [[draws.uniform(0, 60), draws.uniform(0, 40), 15, 30] for _ in range(draws.choice([0, 0, 0, 1, 2]))]
        found += [detection(image, box, round(draws.betavariate(4, 2), 2)) for box in near]
        found += [detection(image, box, round(draws.betavariate(2, 4), 2)) for box in far]
    return people, num_images, found


def test_random_cases_against_brute_force():
    rates = []
    for seed in range(40):
        people, num_images, found = draw_case(seed)
        rates.append(rate(make_truth(people, num_images), found))
        assert rates[-1] == pytest.approx(brute_force(people, num_images, found), rel=1e-9), seed
    assert sum(0.1 < r < 0.95 for r in rates) > 20, "most cases lie between the extremes"
