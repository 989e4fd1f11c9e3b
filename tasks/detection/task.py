"""The detection task: losses, predictions and the COCO evaluator, for any detector with `head` and `anchor_scale`.

Shapes: batch as collated by datasets/loader.py; model output as models/detection/heads/efficientdet.py.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from datasets.data_module import DataModule
from models.detection.anchors import make_anchors
from models.detection.heads.anchor_losses import detection_losses
from models.detection.heads.anchor_targets import assign_targets
from models.detection.heads.efficientdet import HeadOutput
from models.detection.postprocess import detect
from utils.coco_eval import evaluate_detections, to_coco_detections
from utils.distributed import SINGLE_PROCESS, Ranks

METRIC, SHOWN, ANSWERS = "AP", ("AP", "AP50"), "detections.json"


def losses(model: nn.Module, batch: dict, ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
    """Return "loss", "class_loss" and "box_loss" of a batch, or of this rank's share of one."""
    output = model(_inputs(batch))
    targets = assign_targets(_anchors(model, batch), batch["boxes_xyxy"], batch["labels"])
    targets = targets._replace(num_positives=ranks.all_reduce_sum(targets.num_positives))
    told = detection_losses(output, targets, model.head.num_classes)
    return {name: loss * ranks.count for name, loss in told.items()} if ranks.count > 1 else told


def predict(model: nn.Module, batch: dict) -> list[dict[str, Tensor]]:
    """Return per image "boxes_xyxy" (n, 4) in pixels of the original image, "scores" (n,) and "labels" (n,)."""
    return boxes_of(model, model(_inputs(batch)), batch)


def boxes_of(model: nn.Module, output: HeadOutput, batch: dict) -> list[dict[str, Tensor]]:
    """Return what `predict` does, from the model's output."""
    sizes = batch["scales"], batch["original_sizes"]
    return detect(output, _anchors(model, batch), _image_size(batch), model.head.num_classes, *sizes)


class DetectionEvaluator:
    """Collect detections in COCO form and score them with pycocotools; what is scored is what can be written.

    The images that are scored are those that were added; `by_area`: small, medium and large objects also apart.
    """

    def __init__(self, ground_truth: dict, category_ids: list[int], class_names: list[str], by_area: bool = True):
        self.ground_truth, self.category_ids, self.class_names = ground_truth, category_ids, class_names
        self.by_area = by_area
        self.image_ids: list[str | int] = []
        self.answers: list[dict] = []

    def add(self, batch: dict, predictions: list[dict[str, Tensor]]) -> None:
        self.image_ids += batch["image_ids"]
        self.answers += to_coco_detections(predictions, batch["image_ids"], self.category_ids)

    def compute(self) -> dict[str, float | None]:
        """Return AP, AP50, ... and LAMR of people in 0..1; None where nothing is there to be found."""
        known = self.ground_truth, self.answers, self.image_ids, self.category_ids, self.class_names
        return evaluate_detections(*known, self.by_area)


def make_evaluator(parts: DataModule, part: str, full: bool = False) -> DetectionEvaluator:
    """Return the evaluator of a part; `full`: small, medium and large objects also apart, which triples the time."""
    truth = parts.data.ground_truth[parts.list_of(part)]
    return DetectionEvaluator(truth, parts.data.category_ids, parts.data.classes, full)


def _inputs(batch: dict) -> dict:
    """Return what the detector reads: cached features where the batch has them, else images."""
    return batch["features"] if "features" in batch else batch["images"]


def _image_size(batch: dict) -> tuple[int, int]:
    return tuple(batch["image_size"])  # pinning makes a list of it, up to some release of PyTorch


def _anchors(model: nn.Module, batch: dict) -> Tensor:
    return _make_anchors(_image_size(batch), model.head.num_levels, model.anchor_scale, batch["scales"].device)


@lru_cache(maxsize=4)  # a run has one image size, or two
def _make_anchors(image_size: tuple[int, int], num_levels: int, anchor_scale: float, device: torch.device) -> Tensor:
    return make_anchors(image_size, num_levels, anchor_scale, device=device)
