"""The COCO evaluator of detections."""

from torch import Tensor

from utils.coco_eval import Scoring, to_coco_detections


class DetectionEvaluator:
    """Collect detections in COCO form and score them with pycocotools; what is scored is what can be written.

    The images that are scored are those that were added.

    Args:
        full: score small, medium and large objects also apart, which triples the time, and the images of each scene,
            where the data name scenes.
    """

    def __init__(self, ground_truth: dict, category_ids: list[int], class_names: list[str], full: bool = True):
        self.ground_truth, self.category_ids, self.class_names = ground_truth, category_ids, class_names
        self.full = full
        self.image_ids: list[str | int] = []
        self.answers: list[dict] = []

    def add(self, batch: dict, predictions: list[dict[str, Tensor]]) -> None:
        self.image_ids += batch["image_ids"]
        self.answers += to_coco_detections(predictions, batch["image_ids"], self.category_ids)

    def compute(self) -> dict[str, float | None]:
        """Return AP, AP50, ... and LAMR of people in 0..1; None where nothing is there to be found."""
        scoring = Scoring(self.ground_truth, self.answers, self.image_ids, self.category_ids, self.class_names)
        return scoring.numbers(by_area=self.full) | (scoring.by_scene() if self.full else {})
