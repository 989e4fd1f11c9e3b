"""Average precision by pycocotools (COCO protocol, boxes), and the miss rate of people, as one flat dict.

Differs from calling COCOeval in that it is silent, accepts no detections and a part of the images, reports each
class, and says None instead of -1 where there is nothing to find. AP is computed from the rounded dicts that go to
`detections.json`, so that file gives the same numbers by hand.

Shapes: n detections of one image. Boxes are xyxy pixels of the original image; COCO dicts hold [x, y, width, height].
"""

import contextlib
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_convert

from utils.miss_rate import PEOPLE, log_average_miss_rate

# Places in COCOeval.stats, then in COCOeval.params.areaRng and maxDets.
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "AP_small": 3, "AP_medium": 4, "AP_large": 5, "AR100": 8}
AREA_STATS = ("AP_small", "AP_medium", "AP_large")
ALL_AREAS, MAX_100 = 0, -1


def to_coco_detections(
    detections: list[dict[str, torch.Tensor]], image_ids: list[str | int], category_ids: list[int]
) -> list[dict[str, Any]]:
    """Turn detections into the COCO results form, boxes rounded to 3 decimals and scores to 6.

    Args:
        detections: per image "boxes_xyxy" (n, 4), "scores" (n,), "labels" (n,) class channels.
        image_ids: the id of each of these images.
        category_ids: the data's id of each class channel; channels beyond (a wider head) are dropped.
    Returns:
        One {"image_id", "category_id", "bbox", "score"} per detection.
    """
    results = []
    for image_id, found in zip(image_ids, detections, strict=True):
        boxes = box_convert(found["boxes_xyxy"].detach().cpu().double(), "xyxy", "xywh").tolist()
        for box, score, label in zip(boxes, found["scores"].tolist(), found["labels"].tolist()):
            if label < len(category_ids):
                rounded = {"bbox": [round(value, 3) for value in box], "score": round(score, 6)}
                results.append({"image_id": image_id, "category_id": category_ids[label]} | rounded)
    return results


@dataclass(frozen=True)
class Scoring:
    """What is scored: the detections of some images of a ground truth. All scores are in 0..1.

    Args:
        ground_truth: COCO dict, as in `DetectionData.ground_truth`; it is not changed.
        detections: as from `to_coco_detections`; those of images outside `image_ids` do not count.
        image_ids: the images to evaluate, at least one.
        category_ids: the id of each class to evaluate.
        class_names: their names.
    """

    ground_truth: dict
    detections: list[dict[str, Any]]
    image_ids: list[str | int]
    category_ids: list[int]
    class_names: list[str]

    def numbers(self, by_area: bool = True) -> dict[str, float | None]:
        """Compute COCO's numbers, and the log-average miss rate of people.

        Args:
            by_area: also match small, medium and large objects apart, which takes three quarters of the time.
        Returns:
            AP, AP50, AP75, AR100, with `by_area` AP_small, AP_medium and AP_large; AP_NAME and AP50_NAME for each
            class; LAMR_NAME for classes named as in `miss_rate.PEOPLE` (lower is better). None where the images hold no
            object to find.
        """
        evaluation = self._evaluate(by_area)
        areas = () if by_area else AREA_STATS
        numbers = {name: _defined(evaluation.stats[place]) for name, place in STATS.items() if name not in areas}
        for category_id, name in zip(self.category_ids, self.class_names, strict=True):
            precision = _precision(evaluation, category_id)
            numbers[f"AP_{name}"] = _defined(np.mean(precision))
            numbers[f"AP50_{name}"] = _defined(np.mean(precision[0]))
            if name.lower() in PEOPLE:
                matches = _of_class(evaluation, sorted(self.category_ids).index(category_id))
                numbers[f"LAMR_{name}"] = log_average_miss_rate(matches, len(evaluation.params.imgIds))
        return numbers

    def by_scene(self) -> dict[str, float | None]:
        """Compute AP and AP50 over the images of each scene alone.

        Returns:
            AP_scene_SCENE, AP50_scene_SCENE and pairs_scene_SCENE (how many images) for each "scene" of the images, in
            alphabetical order. Images without a scene are left out; {} where none has one.
        """
        scenes: dict[str, list] = {}
        for image in self._images():
            if "scene" in image:
                scenes.setdefault(image["scene"], []).append(image["id"])
        numbers = {}
        for scene, ids in sorted(scenes.items()):
            found = replace(self, image_ids=ids).numbers(by_area=False)
            numbers |= {f"{name}_scene_{scene}": found[name] for name in ("AP", "AP50")}
            numbers[f"pairs_scene_{scene}"] = len(ids)
        return numbers

    def precision_by_recall(self) -> dict[str, list[float]]:
        """Compute the precision of each class at IoU 0.5, at 101 recalls from 0 to 1, as AP50 is the mean of.

        Returns:
            By class name; classes of which the images hold nothing are left out.
        """
        evaluation, classes = self._evaluate(by_area=False), zip(self.class_names, self.category_ids, strict=True)
        curves = {name: _precision(evaluation, category_id)[0] for name, category_id in classes}
        return {name: curve.tolist() for name, curve in curves.items() if curve.min() >= 0}

    def matches(self, image_ids: list[str | int]) -> dict[str, list[dict | None]]:
        """Match detections with objects.

        Args:
            image_ids: the images, in the order of the result.
        Returns:
            By class name, for each image the entry of `COCOeval.evalImgs` at all sizes: "dtScores" (D), "dtMatches" and
            "dtIgnore" (T, D), "gtIgnore" (G); None for an image with neither objects nor detections.
        """
        evaluation, found = self._evaluate(by_area=False), {}
        places = {image_id: place for place, image_id in enumerate(evaluation.params.imgIds)}
        for category_id, name in zip(self.category_ids, self.class_names, strict=True):
            entries = _of_class(evaluation, sorted(self.category_ids).index(category_id))
            found[name] = [entries[places[image_id]] for image_id in image_ids]
        return found

    def _images(self) -> list[dict]:
        wanted = set(self.image_ids)
        return [image for image in self.ground_truth["images"] if image["id"] in wanted]

    def _evaluate(self, by_area: bool) -> COCOeval:
        assert len(self.image_ids) > 0, "pycocotools takes an empty list for all images"
        wanted = set(self.image_ids)
        # Copies, since COCOeval writes into annotations.
        truths = [dict(item) for item in self.ground_truth["annotations"] if item["image_id"] in wanted]
        numbered = enumerate(self.detections, 1)
        found = [_as_annotation(item, number) for number, item in numbered if item["image_id"] in wanted]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._index(truths), self._index(found), "bbox")
            evaluation.params.catIds = list(self.category_ids)
            if not by_area:
                evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def _index(self, annotations: list[dict]) -> COCO:
        coco, categories = COCO(), self.ground_truth["categories"]
        coco.dataset = {"images": self._images(), "annotations": annotations, "categories": categories}
        coco.createIndex()
        return coco


def _precision(evaluation: COCOeval, category_id: int) -> np.ndarray:
    """Return the precision of a class at all sizes: (thresholds, recalls), -1 where there is nothing to find."""
    # precision (threshold, recall, category, area, max detections); accumulate sorts the categories.
    place = sorted(evaluation.params.catIds).index(category_id)
    return evaluation.eval["precision"][:, :, place, ALL_AREAS, MAX_100]


def _of_class(evaluation: COCOeval, place: int) -> list[dict | None]:
    """Give the matches of each image at all areas; evalImgs runs over categories, then areas, then images."""
    num_images = len(evaluation.params.imgIds)
    start = (place * len(evaluation.params.areaRng) + ALL_AREAS) * num_images
    return evaluation.evalImgs[start : start + num_images]


def _as_annotation(detection: dict[str, Any], number: int) -> dict[str, Any]:
    """Add what COCO.loadRes adds; that function fails on an empty list and writes into its argument."""
    return {**detection, "id": number, "area": detection["bbox"][2] * detection["bbox"][3], "iscrowd": 0}


def _defined(value: float) -> float | None:
    return float(value) if value >= 0 else None
