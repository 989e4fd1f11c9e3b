"""Class and box heads: one small convolution tower each, shared by all levels but for the norms.

EfficientDet (Tan et al. 2020), section 3.4. Parameter names are those of the released files.
Shapes: B images, A = NUM_ANCHORS, K classes, C channels, level l of H_l x W_l cells, N anchors over all levels.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from models.detection.anchors import NUM_ANCHORS
from models.detection.layers import batch_norm, init_normal, separable_conv

Maps = list[torch.Tensor]


class HeadOutput(NamedTuple):
    """What every model returns, in training and in evaluation.

    `class_logits`: per level (B, A * K, H_l, W_l), channel anchor * K + class.
    `box_deltas`: per level (B, A * 4, H_l, W_l), channel anchor * 4 + component, components ty, tx, th, tw.
    """

    class_logits: Maps
    box_deltas: Maps


def flatten_levels(levels: Maps, per_anchor: int) -> torch.Tensor:
    """Put head maps in anchor order.

    Args:
        levels: per level (B, A * per_anchor, H_l, W_l).
        per_anchor: values per anchor, K or 4.

    Returns:
        (B, N, per_anchor), anchors ordered as `make_anchors` does.
    """
    flat = [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, per_anchor) for level in levels]
    return torch.cat(flat, dim=1)


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
        nn.init.constant_(self.predict.conv_pw.bias, bias)

    def forward(self, maps: Maps) -> Maps:
        """Take per level (B, C, H_l, W_l), give per level (B, outputs, H_l, W_l)."""
        assert len(maps) == len(self.bn_rep), (len(maps), len(self.bn_rep))
        return [self._predict_level(x, norms) for x, norms in zip(maps, self.bn_rep)]

    def _predict_level(self, x: torch.Tensor, norms: nn.ModuleList) -> torch.Tensor:
        for conv, norm in zip(self.conv_rep, norms):
            x = F.silu(norm(conv(x)))
        return self.predict(x)


class DetectionHead(nn.Module):
    """Predict classes and boxes from a pyramid.

    Args:
        channels: C of the pyramid.
        num_classes: K.
        repeats: tower depth of both nets (published: 3).
        num_levels: pyramid levels.
    """

    def __init__(self, channels: int, num_classes: int, repeats: int = 3, num_levels: int = 5) -> None:
        super().__init__()
        self.num_classes, self.num_levels = num_classes, num_levels
        # Every class starts at a probability of 1 %: RetinaNet (Lin et al. 2017), section 4.1.
        class_bias = -math.log(99)
        self.fusion_class_net = PredictionNet(channels, NUM_ANCHORS * num_classes, repeats, num_levels, class_bias)
        self.fusion_box_net = PredictionNet(channels, NUM_ANCHORS * 4, repeats, num_levels, 0.0)

    def forward(self, maps: Maps) -> HeadOutput:
        """Take per level (B, C, H_l, W_l); see `HeadOutput` for what comes out."""
        return HeadOutput(self.fusion_class_net(maps), self.fusion_box_net(maps))
