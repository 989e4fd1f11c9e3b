"""BiFPN: its graph, a plain loop over it, other numbers of levels, any image size, the released names."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.detection.anchors import level_sizes
from models.detection.backbones import create_encoder, encode, encoder_channels
from models.detection.heads.efficientdet import DetectionHead
from models.detection.necks.bifpn import BiFPN, Combine, bifpn_graph

PUBLISHED_GRAPH = [
    (3, (3, 4)),
    (2, (2, 5)),
    (1, (1, 6)),
    (0, (0, 7)),
    (1, (1, 7, 8)),
    (2, (2, 6, 9)),
    (3, (3, 5, 10)),
    (4, (4, 11)),
]


def features_of(image_size, channels, batch=2):
    sizes = level_sizes(image_size, 3)
    return [torch.randn(batch, c, *size) for c, size in zip(channels, sizes, strict=True)]


def test_graph_of_five_levels():
    assert bifpn_graph(5) == PUBLISHED_GRAPH


@pytest.mark.parametrize("num_levels", [3, 4, 6, 8])
def test_graph_of_other_levels(num_levels):
    """Every input and node is used, outputs are one per level in order, nothing is read before it is made."""
    graph = bifpn_graph(num_levels)
    assert [level for level, _ in graph[-num_levels:]] == list(range(num_levels))
    assert len(graph) == 2 * num_levels - 2
    used = {i for _, inputs in graph for i in inputs}
    assert used == set(range(num_levels + len(graph) - 1))
    node_level = [*range(num_levels), *(level for level, _ in graph)]
    for position, (level, inputs) in enumerate(graph):
        assert max(inputs) < num_levels + position
        assert all(abs(node_level[i] - level) <= 1 for i in inputs)


def test_combine_is_the_normalised_sum():
    combine = Combine({0: 8, 2: 8, 3: 8}, 8)
    combine.edge_weights.data = torch.tensor([0.5, -1.0, 2.0])
    maps = [torch.randn(1, 8, 4, 6) for _ in range(3)] + [torch.randn(1, 8, 2, 3)]
    enlarged = F.interpolate(maps[3], (4, 6), mode="bilinear", align_corners=False)
    expected = (0.5 * maps[0] + 2.0 * enlarged) / (2.5 + 1e-4)
    torch.testing.assert_close(combine(maps, (4, 6)), expected)


@pytest.mark.parametrize("num_levels", [3, 4, 5, 6])
@pytest.mark.parametrize("image_size", [(97, 131), (64, 64)])
def test_taps_after_every_repeat(num_levels, image_size):
    fpn = BiFPN([6, 8, 10], 8, 3, num_levels).eval()
    taps = fpn(features_of(image_size, [6, 8, 10]), image_size)
    sizes = level_sizes(image_size, num_levels)
    assert [[tuple(x.shape) for x in levels] for levels in taps] == [[(2, 8, *size) for size in sizes]] * 3


def test_extra_levels_have_one_projection():
    assert not list(BiFPN([6, 8, 10], 8, 1, 3).resample)
    for num_levels in (4, 6):
        fpn = BiFPN([6, 8, 10], 8, 1, num_levels)
        assert fpn.resample["3"].conv.conv.weight.shape == (8, 10, 1, 1)
        assert len(fpn.resample) == 1


def test_every_parameter_learns_from_the_last_tap():
    """In training mode, from all levels of the last repeat: edge weights and projections included."""
    fpn = BiFPN([6, 8, 10], 8, 2, 5)
    taps = fpn(features_of((64, 128), [6, 8, 10]), (64, 128))
    sum((level * torch.randn_like(level)).sum() for level in taps[-1]).backward()
    for name, parameter in fpn.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_batched_equals_single():
    fpn = BiFPN([6, 8, 10], 8, 2, 5).eval()
    features = features_of((97, 131), [6, 8, 10], batch=3)
    batched = fpn(features, (97, 131))
    single = fpn([x[1:2] for x in features], (97, 131))
    for batch_levels, levels in zip(batched, single, strict=True):
        for batch_map, level in zip(batch_levels, levels, strict=True):
            torch.testing.assert_close(batch_map[1:2], level)


def test_from_a_small_encoder():
    """Any image size, from the encoder to the head."""
    encoder = create_encoder("lcnet_050").eval()
    fpn = BiFPN(encoder_channels(encoder), 16, 2, 4).eval()
    head = DetectionHead(16, 3, repeats=1, num_levels=4).eval()
    output = head(fpn(encode(encoder, torch.randn(1, 3, 97, 131)), (97, 131))[-1])
    sizes = level_sizes((97, 131), 4)
    assert [tuple(x.shape) for x in output.class_logits] == [(1, 27, *size) for size in sizes]
    assert [tuple(x.shape) for x in output.box_deltas] == [(1, 36, *size) for size in sizes]


@pytest.fixture
def released_keys():
    folder = os.environ.get("NAS_DSF_REFERENCE")
    if not folder:
        pytest.skip("NAS_DSF_REFERENCE, the folder of the reference data, is not set")
    return json.loads((Path(folder) / "released_checkpoint_keys.json").read_text())


def zeros_of(shapes):
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def test_streams_take_the_released_names(released_keys):
    streams = nn.Module()
    for modality in ("thermal", "rgb"):
        encoder = create_encoder("efficientnetv2_rw_t", drop_path=0.2)
        streams.add_module(f"{modality}_backbone", encoder)
        streams.add_module(f"{modality}_fpn", BiFPN(encoder_channels(encoder), 128, 5))
    shapes = released_keys["Att_Fusion_Net_Pretrained_Best.pth.tar"]
    assert len(shapes) == 2192
    streams.load_state_dict(zeros_of(shapes), strict=True)


def test_head_takes_the_released_names(released_keys):
    shapes = released_keys["Head_Net_Pretrained_Best.pth.tar"]
    assert len(shapes) == 168
    DetectionHead(128, 90).load_state_dict(zeros_of(shapes), strict=True)
