"""The fused detector: shapes, names, order of taps, modalities, single images, images without boxes."""

import pytest
import torch

from engine.tasks.detection import losses, predict
from models.detection.bifpn import BiFPN
from models.detection.heads import DetectionHead
from models.fusion_baselines import BASELINES
from models.fusion_detector import (
    FusionDetector,
    Normalize,
    SingleDetector,
    Streams,
    baseline_fusions,
    found_fusions,
    searchable_fusions,
)
from models.search.genotypes import Space, random_genotype

STATISTICS = {"rgb": ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2)), "thermal": ((0.5,) * 3, (0.25,) * 3)}
LEVELS = [(12, 20), (6, 10), (3, 5), (2, 3)]  # of 90 x 154 px by the ceil rule


def detector(kind: str) -> FusionDetector:
    torch.manual_seed(0)
    streams, modalities = Streams("lcnet_050", 16, 2, 4), ("thermal", "rgb")
    if kind == "search":
        fusions = searchable_fusions(Space(4, 16), 4, 0.0)
    elif kind == "found":
        fusions = found_fusions(random_genotype(Space(4, 16), streams.tap_names, streams.level_names, 1), 0.2)
    else:
        fusions, modalities = baseline_fusions(kind, 16, 4)
    return FusionDetector(streams, fusions, DetectionHead(16, 3, num_levels=4), STATISTICS, 2.0, modalities).eval()


def batch(num: int = 2, boxes: bool = True) -> dict:
    draws = torch.Generator().manual_seed(0)
    found = torch.tensor([[10.0, 12.0, 40.0, 50.0], [60.0, 20.0, 75.0, 44.0]]) if boxes else torch.zeros(0, 4)
    return {
        "images": {
            "rgb": torch.randint(256, (num, 3, 90, 154), generator=draws).byte(),
            "thermal": torch.randint(256, (num, 1, 90, 154), generator=draws).byte(),
        },
        "boxes_xyxy": [found] * num,
        "labels": [torch.arange(len(found))] * num,
        "image_ids": list(range(num)),
        "scales": torch.ones(num),
        "original_sizes": torch.tensor([[90, 154]] * num),
    }


@pytest.mark.parametrize("kind", ["search", "found", *BASELINES])
def test_shapes_losses_and_gradients(kind):
    model, data = detector(kind).train(), batch()
    out = model(data["images"])
    assert [tuple(x.shape) for x in out.class_logits] == [(2, 27, *size) for size in LEVELS]
    assert [tuple(x.shape) for x in out.box_deltas] == [(2, 36, *size) for size in LEVELS]
    found = losses(model, data)
    assert found.keys() == {"loss", "class_loss", "box_loss"}
    found["loss"].backward()
    assert all(p.grad is None for p in model.streams.parameters())
    assert all(p.grad is not None for p in [*model.fusions.parameters(), *model.head.parameters()])


@pytest.mark.parametrize("kind", ["search", "found", "sum"])
def test_batched_equals_single(kind):
    model, data = detector(kind), batch(3)
    whole = model(data["images"])
    for i in range(3):
        one = model({m: x[i : i + 1] for m, x in data["images"].items()})
        for a, b in zip([*whole.class_logits, *whole.box_deltas], [*one.class_logits, *one.box_deltas], strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("baseline", ["thermal", "rgb"])
def test_a_single_modality_reads_nothing_else(baseline):
    model, data = detector(baseline), batch()
    other = {"thermal": "rgb", "rgb": "thermal"}[baseline]
    alone = model({baseline: data["images"][baseline]})
    changed = model(data["images"] | {other: 255 - data["images"][other]})
    assert all(torch.equal(a, b) for a, b in zip(alone.class_logits, changed.class_logits, strict=True))


def test_taps_are_thermal_then_rgb_and_one_per_repeat():
    model, data = detector("search"), batch()
    floats = {m: model.normalize(x, m) for m, x in data["images"].items()}
    taps = model.streams(floats)
    assert model.streams.tap_names == ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2")
    assert [len(level) for level in taps] == [4] * 4
    no_rgb = model.streams(floats | {"rgb": torch.zeros_like(floats["rgb"])})
    for level, other in zip(taps, no_rgb, strict=True):
        assert [torch.equal(a, b) for a, b in zip(level, other, strict=True)] == [True, True, False, False]


def test_last_taps_of_the_hand_made_fusions():
    taps = [torch.full((1, 8, 2, 2), float(i)) for i in range(6)]  # thermal 0 1 2, rgb 3 4 5
    assert baseline_fusions("sum", 8, 1)[0][0](taps).unique().tolist() == [7.0]
    assert baseline_fusions("mean", 8, 1)[0][0](taps).unique().tolist() == [3.5]
    assert baseline_fusions("thermal", 8, 1)[0][0](taps[:3]).unique().tolist() == [2.0]


def test_normalisation_by_modality_and_grey_to_three_channels():
    normalize = Normalize(STATISTICS)
    grey = normalize(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8), "thermal")
    assert grey.shape == (1, 3, 2, 2)
    torch.testing.assert_close(grey, torch.full((1, 3, 2, 2), 2.0))
    colour = normalize(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "rgb")
    torch.testing.assert_close(colour[0, :, 0, 0], torch.tensor([-2.0, -2.5, -3.0]))


def test_images_without_boxes():
    model, data = detector("found").train(), batch(boxes=False)
    found = losses(model, data)
    assert found["box_loss"] == 0
    assert torch.isfinite(found["loss"])
    detections = predict(model.eval(), data)
    assert all((d["boxes_xyxy"][:, 2:] <= torch.tensor([154.0, 90.0])).all() for d in detections)


def test_a_single_detector_gives_its_stream_to_the_fused_one():
    torch.manual_seed(1)
    streams = Streams("lcnet_050", 16, 2, 4)
    encoder = Streams("lcnet_050", 16, 2, 4).rgb_backbone
    fpn = BiFPN(encoder.feature_info.channels(), 16, 2, 4)
    single = SingleDetector("rgb", encoder, fpn, DetectionHead(16, 3, num_levels=4), STATISTICS, 2.0).eval()
    single.load_state_dict(single.state_dict())
    streams.load_state_dict(streams.state_dict() | single.stream_state())
    fusions, modalities = baseline_fusions("rgb", 16, 4)
    fused = FusionDetector(streams, fusions, single.head, STATISTICS, 2.0, modalities).eval()
    images = batch()["images"]
    for a, b in zip(single(images).class_logits, fused(images).class_logits, strict=True):
        assert torch.equal(a, b)
