"""FCOS's head, form "imprv": a class, a box and a centre-ness from every point of the pyramid.

FCOS (Tian et al. 2019, 1904.01355), with the improvements of its release, which FAD (2007.12075) builds on:
centre-ness from the box maps, distances in strides, GIoU loss, centre sampling, scores sqrt(class * centre-ness).
Towers are not the head's: models/detection/towers.py.

Shapes: B images, C channels, K classes, level l of H_l x W_l cells, N points over all levels.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.detection.anchors import level_sizes
from models.detection.heads.fcos_losses import normalizers, point_losses
from models.detection.heads.fcos_targets import assign_points, make_points
from models.detection.heads.head import Detections, Maps, flatten_levels, image_size_of, init_normal
from models.detection.heads.level_detections import CLASS_THRESHOLD, best_of_levels, detect_by_levels
from utils.distributed import SINGLE_PROCESS, Ranks


class PointOutput(NamedTuple):
    """The output of the head, in training and in evaluation.

    `class_logits`: per level (B, K, H_l, W_l).
    `distances`: per level (B, 4, H_l, W_l), left, top, right, bottom in strides of the level, at least 0.
    `centerness`: per level (B, 1, H_l, W_l), logits.
    """

    class_logits: Maps
    distances: Maps
    centerness: Maps


class FCOSHead(nn.Module):
    """Predict classes, boxes and centre-ness from the maps of towers.

    Args:
        channels: C of the maps.
        num_classes: K.
        num_levels: pyramid levels.
        box_loss: "giou", "iou" or "linear_iou".
    """

    nms_iou = 0.6
    keeps_empty_boxes = False

    def __init__(self, channels: int, num_classes: int, num_levels: int = 5, box_loss: str = "giou") -> None:
        super().__init__()
        self.num_classes, self.num_levels, self.box_loss = num_classes, num_levels, box_loss
        self.cls_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(num_levels))
        init_normal(self.cls_logits, bias=-math.log(99))  # every class starts at a probability of 1 %
        init_normal(self.bbox_pred)
        init_normal(self.centerness)

    def forward(self, class_maps: Maps, box_maps: Maps | None = None) -> PointOutput:
        """Predict from the maps (B, C, H_l, W_l) of each level; `box_maps`: those for the boxes where they differ."""
        box_maps = class_maps if box_maps is None else box_maps
        distances = [(s * self.bbox_pred(x)).relu() for s, x in zip(self.scales, box_maps, strict=True)]
        return PointOutput([self.cls_logits(x) for x in class_maps], distances, [self.centerness(x) for x in box_maps])

    def losses(self, output: PointOutput, batch: dict[str, Any], ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return "loss", "class_loss", "box_loss" and "centerness_loss": see `Head.losses`."""
        points = self.locations(image_size_of(batch), batch["boxes_xyxy"].device)
        targets = assign_points(points, batch["boxes_xyxy"], batch["labels"])
        sums = ranks.all_reduce_sum(normalizers(targets))
        losses = point_losses(*self.flatten(output), targets, sums, self.box_loss)
        return {name: loss * ranks.count for name, loss in losses.items()}

    def detect(self, output: PointOutput, batch: dict[str, Any]) -> Detections:
        """Return boxes, scores and labels of each image: see `Head.detect`."""
        return detect_by_levels(self, output, batch)

    def candidates(self, logits: Tensor, values: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best scores of each level, with their locations and classes: see `Head.candidates`."""
        probabilities = logits.sigmoid()
        scores = (probabilities * values[..., 4:].sigmoid()).sqrt().where(probabilities > CLASS_THRESHOLD, 0)
        sizes = level_sizes(image_size, self.num_levels)
        return best_of_levels(scores, [rows * columns for rows, columns in sizes])

    def flatten(self, output: PointOutput) -> tuple[Tensor, Tensor]:
        """Return class logits (B, N, K) and values (B, N, 5), distances and the logit of centre-ness."""
        values = [torch.cat(level, dim=1) for level in zip(output.distances, output.centerness, strict=True)]
        return flatten_levels(output.class_logits, self.num_classes), flatten_levels(values, 5)

    def locations(self, image_size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
        """Return the points of an image (height, width), (N, 3): x, y and stride in pixels."""
        return _points(image_size, self.num_levels, torch.device(device))

    def decode(self, values: Tensor, locations: Tensor) -> Tensor:
        """Return boxes (..., 4) xyxy pixels of values (..., 5) and their points (..., 3)."""
        points, distances = locations[..., :2], values[..., :4] * locations[..., 2:]
        return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


@lru_cache(maxsize=16)  # a run has one image size, or a dozen with --short_sides
def _points(image_size: tuple[int, int], num_levels: int, device: torch.device) -> Tensor:
    return make_points(image_size, num_levels).to(device)
