"""FPN: a plain rewrite, its start, and what it needs of the encoder."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.detection.anchors import level_sizes
from models.detection.backbones import create_encoder, encode, encoder_channels
from models.detection.necks.fpn import FPN


def test_equals_functional_calls():
    fpn = FPN([4, 6, 10], 8)
    maps = [torch.randn(2, c, *size) for c, size in zip((4, 6, 10), level_sizes((90, 154), 3), strict=True)]
    state = dict(fpn.named_parameters())
    lateral = [state[f"pyramid.inner_blocks.{i}.0.weight"] for i in range(3)]
    output = [state[f"pyramid.layer_blocks.{i}.0.weight"] for i in range(3)]
    inner = [F.conv2d(x, weight) for x, weight in zip(maps, lateral, strict=True)]
    for level in (1, 0):
        inner[level] = inner[level] + F.interpolate(inner[level + 1], inner[level].shape[-2:], mode="nearest")
    expected = [F.conv2d(x, weight, padding=1) for x, weight in zip(inner, output, strict=True)]
    expected.append(F.conv2d(expected[2], state["pyramid.extra_blocks.p6.weight"], stride=2, padding=1))
    expected.append(F.conv2d(expected[3].relu(), state["pyramid.extra_blocks.p7.weight"], stride=2, padding=1))
    for ours, theirs, size in zip(fpn(maps), expected, level_sizes((90, 154), 5), strict=True):
        assert ours.shape == (2, 8, *size)
        torch.testing.assert_close(ours, theirs)


def test_start_is_kaiming_uniform_with_slope_1():
    for conv in (m for m in FPN([512, 1024, 2048]).modules() if isinstance(m, nn.Conv2d)):
        bound = math.sqrt(3 / conv.weight[0].numel())
        assert conv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not conv.bias.any()


def test_from_a_small_encoder():
    encoder = create_encoder("lcnet_050").eval()
    maps = FPN(encoder_channels(encoder), 16)(encode(encoder, torch.randn(1, 3, 97, 131)))
    assert [tuple(x.shape[1:]) for x in maps] == [(16, *size) for size in level_sizes((97, 131), 5)]
