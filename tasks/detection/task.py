"""The detection task: losses and detections of the head, and the COCO evaluator.

Shapes: batch as collated by datasets/loader.py.
"""

from torch import Tensor, nn

from datasets.data_module import DataModule
from utils.coco_eval import evaluate_detections, to_coco_detections
from utils.distributed import SINGLE_PROCESS, Ranks

METRIC, SHOWN, ANSWERS = "AP", ("AP", "AP50"), "detections.json"


def losses(model: nn.Module, batch: dict, ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
    """Return the losses of a batch, or of this rank's share of one: see `Head.losses`."""
    return model.head.losses(model(_inputs(batch)), batch, ranks)


def predict(model: nn.Module, batch: dict) -> list[dict[str, Tensor]]:
    """Return the boxes, scores and labels of each image: see `Head.detect`."""
    return model.head.detect(model(_inputs(batch)), batch)


class DetectionEvaluator:
    """Collect detections in COCO form and score them with pycocotools: the very numbers that are written to the file.

    Only the images that were added are scored. `by_area`: also score small, medium and large objects apart.
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
        """Return AP, AP50, ... and LAMR of people in 0..1; None where there are no objects."""
        return evaluate_detections(
            self.ground_truth, self.answers, self.image_ids, self.category_ids, self.class_names, self.by_area
        )


def make_evaluator(parts: DataModule, part: str, full: bool = False) -> DetectionEvaluator:
    """Return the evaluator of a part; `full`: also score objects by size, which triples the time."""
    truth = parts.data.ground_truth[parts.list_of(part)]
    return DetectionEvaluator(truth, parts.data.category_ids, parts.data.classes, full)


def _inputs(batch: dict) -> dict:
    """Return what the detector reads: the cached features of a batch that has them, else its images."""
    return batch["features"] if "features" in batch else batch["images"]
