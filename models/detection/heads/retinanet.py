"""RetinaNet's head: classes and boxes from nine anchors per cell, behind towers (models/detection/towers.py).

Lin et al. 2017 (1708.02002), section 4; the second detector of FAD (2007.12075). Its anchors are EfficientDet's, of
scale 4: sides of 32 to 512 px, where the levels' sizes divide the image's.

Shapes: B images, C channels, K classes, A = 9 anchors, level l of H_l x W_l cells, N anchors over all levels.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from models.detection.anchors import NUM_ANCHORS, level_sizes, make_anchors
from models.detection.heads.efficientdet import HeadOutput
from models.detection.heads.head import Detections, Maps, flatten_levels, image_size_of, init_normal
from models.detection.heads.level_detections import CLASS_THRESHOLD, best_of_levels, detect_by_levels
from models.detection.heads.retinanet_losses import assign_anchors, decode_boxes, normalizers, retinanet_losses
from utils.distributed import SINGLE_PROCESS, Ranks

ANCHOR_SCALE = 4.0


class RetinaNetHead(nn.Module):
    """Predict classes and boxes from the maps of towers.

    Args:
        channels: C of the maps.
        num_classes: K.
        num_levels: pyramid levels.
    """

    nms_iou = 0.4
    keeps_empty_boxes = False

    def __init__(self, channels: int, num_classes: int, num_levels: int = 5) -> None:
        super().__init__()
        self.num_classes, self.num_levels = num_classes, num_levels
        self.cls_logits = nn.Conv2d(channels, NUM_ANCHORS * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, NUM_ANCHORS * 4, 3, padding=1)
        init_normal(self.cls_logits, bias=-math.log(99))  # every class starts at a probability of 1 %
        init_normal(self.bbox_pred)

    def forward(self, class_maps: Maps, box_maps: Maps | None = None) -> HeadOutput:
        """Predict from the maps (B, C, H_l, W_l) of each level; `box_maps`: those for the boxes where they differ."""
        box_maps = class_maps if box_maps is None else box_maps
        return HeadOutput([self.cls_logits(x) for x in class_maps], [self.bbox_pred(x) for x in box_maps])

    def losses(self, output: HeadOutput, batch: dict[str, Any], ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return "loss", "class_loss" and "box_loss": see `Head.losses`."""
        anchors = self.locations(image_size_of(batch), batch["boxes_xyxy"].device)
        targets = assign_anchors(anchors, batch["boxes_xyxy"], batch["labels"])
        losses = retinanet_losses(*self.flatten(output), targets, ranks.all_reduce_sum(normalizers(targets)))
        return {name: loss * ranks.count for name, loss in losses.items()}

    def detect(self, output: HeadOutput, batch: dict[str, Any]) -> Detections:
        """Return boxes, scores and labels of each image: see `Head.detect`."""
        return detect_by_levels(self, output, batch)

    def candidates(self, logits: Tensor, values: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best scores of each level, with their locations and classes: see `Head.candidates`."""
        scores, sizes = logits.sigmoid(), level_sizes(image_size, self.num_levels)
        scores = scores.where(scores > CLASS_THRESHOLD, 0)
        return best_of_levels(scores, [NUM_ANCHORS * rows * columns for rows, columns in sizes])

    def flatten(self, output: HeadOutput) -> tuple[Tensor, Tensor]:
        """Return class logits (B, N, K) and box codes (B, N, 4) in the order of the anchors."""
        return flatten_levels(output.class_logits, self.num_classes), flatten_levels(output.box_deltas, 4)

    def locations(self, image_size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
        """Return the anchors of an image (height, width), (N, 4) xyxy pixels."""
        return _anchors(image_size, self.num_levels, torch.device(device))

    def decode(self, values: Tensor, locations: Tensor) -> Tensor:
        """Return boxes (..., 4) xyxy pixels of codes (..., 4) and their anchors (..., 4)."""
        return decode_boxes(values, locations)


@lru_cache(maxsize=16)  # a run has one image size, or a dozen with --short_sides
def _anchors(image_size: tuple[int, int], num_levels: int, device: torch.device) -> Tensor:
    return make_anchors(image_size, num_levels, ANCHOR_SCALE).to(device)
