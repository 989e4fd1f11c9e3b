"""EfficientDet's head: a class net and a box net, each a small tower that the levels share but for its norms.

EfficientDet (Tan et al. 2020), section 3.4. Parameter names are those of the released files.
Shapes: B images, A = NUM_ANCHORS, K classes, C channels, level l of H_l x W_l cells, N anchors over all levels.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.detection.anchors import NUM_ANCHORS, make_anchors
from models.detection.heads.anchor_losses import detection_losses
from models.detection.heads.anchor_targets import assign_targets, decode_boxes
from models.detection.heads.head import Detections, Maps, flatten_levels, image_size_of
from models.detection.layers import batch_norm, init_normal, separable_conv
from models.detection.postprocess import NMS_IOU, NUM_CANDIDATES, detect
from utils.distributed import SINGLE_PROCESS, Ranks


class HeadOutput(NamedTuple):
    """The output of the head, in training and in evaluation.

    `class_logits`: per level (B, A * K, H_l, W_l), channel anchor * K + class.
    `box_deltas`: per level (B, A * 4, H_l, W_l), channel anchor * 4 + component, components ty, tx, th, tw.
    """

    class_logits: Maps
    box_deltas: Maps


class PredictionNet(nn.Module):
    """Predict `outputs` channels per cell: `repeats` times convolution, norm and SiLU, then a convolution with bias.

    Args:
        channels: C of the input maps.
        outputs: channels predicted.
        repeats: tower depth.
        num_levels: pyramid levels; each has its own norms.
        bias: start value of the last bias.
    """

    def __init__(self, channels: int, outputs: int, repeats: int, num_levels: int, bias: float) -> None:
        super().__init__()
        self.conv_rep = nn.ModuleList(separable_conv(channels, channels) for _ in range(repeats))
        level_norms = [nn.ModuleList(batch_norm(channels) for _ in range(repeats)) for _ in range(num_levels)]
        self.bn_rep = nn.ModuleList(level_norms)
        self.predict = separable_conv(channels, outputs, bias=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_normal(module)
        last: Any = self.predict.conv_pw
        nn.init.constant_(last.bias, bias)

    def forward(self, maps: Maps) -> Maps:
        """Return (B, outputs, H_l, W_l) per level, of (B, C, H_l, W_l) per level."""
        assert len(maps) == len(self.bn_rep), (len(maps), len(self.bn_rep))
        return [self._predict_level(x, norms) for x, norms in zip(maps, self.bn_rep)]

    def _predict_level(self, x: Tensor, norms: nn.Module) -> Tensor:
        for conv, norm in zip(self.conv_rep, norms.children(), strict=True):
            x = F.silu(norm(conv(x)))
        return self.predict(x)


class DetectionHead(nn.Module):
    """Predict classes and boxes from a pyramid.

    Args:
        channels: C of the pyramid.
        num_classes: K.
        repeats: tower depth of both nets (published: 3); 0 where the detector has towers of its own.
        num_levels: pyramid levels.
        anchor_scale: side of the smallest anchor in strides (published: 4).
    """

    nms_iou = NMS_IOU
    keeps_empty_boxes = True

    def __init__(
        self, channels: int, num_classes: int, repeats: int = 3, num_levels: int = 5, anchor_scale: float = 4.0
    ) -> None:
        super().__init__()
        self.num_classes, self.num_levels, self.anchor_scale = num_classes, num_levels, anchor_scale
        # Every class starts at a probability of 1 %: RetinaNet (Lin et al. 2017), section 4.1.
        class_bias = -math.log(99)
        self.fusion_class_net = PredictionNet(channels, NUM_ANCHORS * num_classes, repeats, num_levels, class_bias)
        self.fusion_box_net = PredictionNet(channels, NUM_ANCHORS * 4, repeats, num_levels, 0.0)

    def forward(self, class_maps: Maps, box_maps: Maps | None = None) -> HeadOutput:
        """Predict from the maps (B, C, H_l, W_l) of each level; `box_maps`: those of the box net where they differ."""
        box_maps = class_maps if box_maps is None else box_maps
        return HeadOutput(self.fusion_class_net(class_maps), self.fusion_box_net(box_maps))

    def losses(self, output: HeadOutput, batch: dict[str, Any], ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return "loss", "class_loss" and "box_loss": see `Head.losses`."""
        anchors = self.locations(image_size_of(batch), batch["boxes_xyxy"].device)
        targets = assign_targets(anchors, batch["boxes_xyxy"], batch["labels"])
        targets = targets._replace(num_positives=ranks.all_reduce_sum(targets.num_positives))
        losses = detection_losses(*self.flatten(output), targets)
        return {name: loss * ranks.count for name, loss in losses.items()} if ranks.count > 1 else losses

    def detect(self, output: HeadOutput, batch: dict[str, Any]) -> Detections:
        """Return boxes, scores and labels of each image: see `Head.detect`."""
        anchors = self.locations(image_size_of(batch))
        return detect(*self.flatten(output), lambda deltas, places: self.decode(deltas, anchors[places]), batch)

    def flatten(self, output: HeadOutput) -> tuple[Tensor, Tensor]:
        """Return class logits (B, N, K) and box deltas (B, N, 4) in the order of the anchors."""
        return flatten_levels(output.class_logits, self.num_classes), flatten_levels(output.box_deltas, 4)

    def locations(self, image_size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
        """Return the anchors of an image (height, width), (N, 4) xyxy pixels."""
        return _anchors(image_size, self.num_levels, self.anchor_scale, torch.device(device))

    def candidates(self, logits: Tensor, values: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best scores, with their locations and classes: see `Head.candidates`."""
        scores, best = logits.flatten(1).sigmoid().topk(min(NUM_CANDIDATES[-1], logits[0].numel()))
        return scores, best // self.num_classes, best % self.num_classes

    def decode(self, values: Tensor, locations: Tensor) -> Tensor:
        """Return boxes (n, 4) xyxy pixels of deltas (n, 4) and their anchors (n, 4)."""
        return decode_boxes(values, locations)


@lru_cache(maxsize=16)  # a run has one image size or two, with --short_sides some more
def _anchors(image_size: tuple[int, int], num_levels: int, anchor_scale: float, device: torch.device) -> Tensor:
    return make_anchors(image_size, num_levels, anchor_scale).to(device)
