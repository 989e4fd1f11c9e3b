"""Heads: start values, one tower for all levels with norms per level, anchor order, batching."""

import math

import pytest
import torch
from torch.nn import functional as F

from models.detection.anchors import NUM_ANCHORS
from models.detection.heads.efficientdet import DetectionHead, PredictionNet
from models.detection.heads.head import flatten_levels


def test_start_values():
    head = DetectionHead(64, 3)
    torch.testing.assert_close(head.fusion_class_net.predict.conv_pw.bias.sigmoid(), torch.full((27,), 0.01))
    assert not head.fusion_box_net.predict.conv_pw.bias.any()
    for conv, fan_in in [(head.fusion_class_net.conv_rep[0].conv_pw, 64), (head.fusion_box_net.predict.conv_pw, 64)]:
        assert conv.weight.std().item() == pytest.approx(math.sqrt(1 / fan_in), rel=0.1)
    depthwise = torch.cat([conv.conv_dw.weight for conv in head.fusion_box_net.conv_rep])
    assert depthwise.std().item() == pytest.approx(1 / 3, rel=0.1)


def test_levels_share_convolutions_and_not_norms():
    """A plain rewrite with functional calls, on levels whose norms differ."""
    net = PredictionNet(4, 5, repeats=2, num_levels=2, bias=0.3).eval()
    for norm in (norm for norms in net.bn_rep for norm in norms):
        torch.nn.init.uniform_(norm.weight)
        torch.nn.init.uniform_(norm.running_mean)
    maps = [torch.randn(2, 4, 6, 5), torch.randn(2, 4, 3, 3)]
    for level, (x, output) in enumerate(zip(maps, net(maps), strict=True)):
        for conv, norm in zip(net.conv_rep, net.bn_rep[level], strict=True):
            x = F.conv2d(F.conv2d(x, conv.conv_dw.weight, padding=1, groups=4), conv.conv_pw.weight)
            statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
            x = F.silu(F.batch_norm(x, *statistics, eps=1e-3))
        x = F.conv2d(x, net.predict.conv_dw.weight, padding=1, groups=4)
        expected = F.conv2d(x, net.predict.conv_pw.weight, net.predict.conv_pw.bias)
        torch.testing.assert_close(output, expected)


def test_flatten_levels():
    """Channel anchor * K + class of level, row, column, against indices counted in a loop."""
    num_classes, sizes = 3, [(2, 3), (1, 2)]
    levels = [torch.randn(2, NUM_ANCHORS * num_classes, *size) for size in sizes]
    expected = [
        [
            level[image, anchor * num_classes : (anchor + 1) * num_classes, row, column]
            for level, (rows, columns) in zip(levels, sizes, strict=True)
            for row in range(rows)
            for column in range(columns)
            for anchor in range(NUM_ANCHORS)
        ]
        for image in range(2)
    ]
    assert torch.equal(flatten_levels(levels, num_classes), torch.stack([torch.stack(image) for image in expected]))


def test_batched_equals_single():
    head = DetectionHead(8, 2, num_levels=2).eval()
    maps = [torch.randn(3, 8, 4, 4), torch.randn(3, 8, 2, 2)]
    batched, single = head(maps), head([x[2:] for x in maps])
    for batch_maps, single_maps in zip(batched, single, strict=True):
        for batch_map, single_map in zip(batch_maps, single_maps, strict=True):
            torch.testing.assert_close(batch_map[2:], single_map)


def test_number_of_levels_must_fit():
    with pytest.raises(AssertionError):
        DetectionHead(8, 2, num_levels=3)([torch.randn(1, 8, 2, 2)] * 2)
