"""Late fusion: the boxes of two detectors put together per image and class, nothing trained.

nms: both lists in one, non-maximum suppression per class at the detector's own threshold.
wbf: weighted boxes fusion (Solovyev et al., 1910.13302), by the library ensemble-boxes with its defaults: boxes of IoU
above 0.55 become their mean weighted by score; the score is the mean times min(boxes, 2) / 2, so a box that one
detector alone found keeps half of its score. Both detectors weigh the same.

Shapes: n boxes of one image. Boxes are xyxy pixels of the original image; COCO dicts hold [x, y, width, height].
"""

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from datasets.detection.dataset import DetectionRecord
from engine.task import ExtraTest, Metrics
from models.detection.postprocess import MAX_DETECTIONS, NMS_IOU
from tasks.detection.evaluator import DetectionEvaluator
from utils.coco_eval import to_coco_detections
from utils.errors import UserError

WBF_IOU = 0.55
Found = dict[str, Tensor]  # boxes_xyxy (n, 4), scores (n,), labels (n,) places in the category ids; float64, int64


class BoxFusion(ExtraTest):
    """`--box_fusion`: the boxes of the run under test and of a partner, fused; they are what results record.

    Args:
        method: "nms" or "wbf".
        partner: folder of the second run.
    """

    def __init__(self, method: str, partner: str):
        self.method, self.partner = method, partner

    def partners(self) -> list[str]:
        return [self.partner]

    def plan(self, trained: list[Any]) -> dict[str, Any]:
        check_partners(*trained)
        return {f"parameters_{t.path.name}": t.num_parameters for t in trained}

    def combine(
        self, trained: list[Any], answers: list[list[dict]], facts: list[dict]
    ) -> tuple[list[dict], Metrics, dict]:
        first, second = trained
        part, data = first.options.eval_part, first.data
        records, ids = data.records(part), data.data.category_ids
        evaluator = DetectionEvaluator(data.data.ground_truth[data.list_of(part)], ids, data.data.classes)
        evaluator.image_ids = [record.image_id for record in records]
        evaluator.answers = fuse_detections(self.method, answers, records, ids)
        metrics = evaluator.compute()
        results = facts_of_both(first, second, self.method, *facts)
        results["AP_val"] = metrics["AP"] if part == "val" else None
        return evaluator.answers, metrics, results


def check_partners(first: Any, second: Any) -> None:
    """Refuse to fuse one run with itself, or two that were not trained for the same classes on the same split.

    A network in which nothing is trained has just the classes of the data.
    """
    if first.path.resolve() == second.path.resolve():
        raise UserError(f"--partner_exp_dir {second.path}: expected another run than --eval_exp_dir, found the same")
    values, partner_values = (t.state["args"] | {"split": t.state["split"]} for t in (first, second))
    trained_here = first.task.trainable and second.task.trainable
    for name in ("split", "dataset", *["num_classes"] * trained_here):
        if partner_values[name] != values[name]:
            expected = f"expected {values[name]} as in {first.path}"
            raise UserError(f"--partner_exp_dir {second.path}: {name}: {expected}, found {partner_values[name]}")


def facts_of_both(first: Any, second: Any, method: str, facts: dict, others: dict) -> dict[str, object]:
    """Return what results record of two runs whose boxes are fused; partner_* is the second's."""
    methods = {"method": f"box {method}", "fused": f"{first.method} + {second.method}"}
    counts = {name: (facts[name], others[name]) for name in ("parameters", "macs")}
    sums = {name: None if None in both else sum(both) for name, both in counts.items()} | {"parameters_fusion": 0}
    names = ("epoch", "seed", "genotype_protocol", "genotype_split", "checkpoint_split")
    partner = {"partner_exp_dir": str(second.path)} | {f"partner_{name}": others[name] for name in names}
    return facts | methods | sums | partner


def fuse_detections(
    how: str, detections: list[list[dict[str, Any]]], records: list[DetectionRecord], category_ids: list[int]
) -> list[dict[str, Any]]:
    """Fuse the detections of several detectors on the same images.

    Args:
        how: "nms" or "wbf".
        detections: per detector, in COCO form; all of `records` and `category_ids`, in any order.
        records: the images, in the order of the result.
        category_ids: the data's id of each class channel.

    Returns:
        Detections in COCO form, at most 100 per image, best first.
    """
    by_image: dict[str | int, list[list[dict]]] = defaultdict(lambda: [[] for _ in detections])
    for number, own in enumerate(detections):
        for item in own:
            by_image[item["image_id"]][number].append(item)
    fuse, results = {"nms": _suppress, "wbf": _weighted}[how], []
    for record in records:
        found = [_to_tensors(own, category_ids) for own in by_image[record.image_id]]
        results.append(_best(fuse(found, record)))
    return to_coco_detections(results, [record.image_id for record in records], category_ids)


def _to_tensors(detections: list[dict[str, Any]], category_ids: list[int]) -> Found:
    boxes = torch.tensor([item["bbox"] for item in detections], dtype=torch.float64).reshape(-1, 4)
    return {
        "boxes_xyxy": box_convert(boxes, "xywh", "xyxy"),
        "scores": torch.tensor([item["score"] for item in detections], dtype=torch.float64),
        "labels": torch.tensor([category_ids.index(item["category_id"]) for item in detections], dtype=torch.int64),
    }


def _suppress(found: list[Found], record: DetectionRecord) -> Found:
    both = {name: torch.cat([own[name] for own in found]) for name in found[0]}
    kept = batched_nms(both["boxes_xyxy"], both["scores"], both["labels"], NMS_IOU)
    return {name: values[kept] for name, values in both.items()}


def _weighted(found: list[Found], record: DetectionRecord) -> Found:
    from ensemble_boxes import weighted_boxes_fusion  # here, since it takes numba and pandas with it

    size = torch.tensor([record.width, record.height] * 2, dtype=torch.float64)
    shares = [(own["boxes_xyxy"] / size).clamp(0, 1) for own in found]  # the library wants 0..1
    solid = [((box[:, 2:] > box[:, :2]).all(dim=1)) for box in shares]  # and drops boxes without area, loudly
    boxes, scores, labels = weighted_boxes_fusion(
        [box[keep].numpy() for box, keep in zip(shares, solid, strict=True)],
        *([own[name][keep].numpy() for own, keep in zip(found, solid, strict=True)] for name in ("scores", "labels")),
        iou_thr=WBF_IOU,
    )
    return {
        "boxes_xyxy": torch.from_numpy(np.asarray(boxes, dtype=np.float64)).reshape(-1, 4) * size,
        "scores": torch.from_numpy(np.asarray(scores, dtype=np.float64)),
        "labels": torch.from_numpy(np.asarray(labels)).long(),
    }


def _best(found: Found) -> Found:
    """Keep the best, equal scores in the order that they have."""
    order = found["scores"].argsort(descending=True, stable=True)[:MAX_DETECTIONS]
    return {name: values[order] for name, values in found.items()}
