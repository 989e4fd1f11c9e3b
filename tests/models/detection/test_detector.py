"""The fused detector: shapes, names, order of taps, streams and what they read, single images, images without boxes."""

import pytest
import torch
from torch import nn

from models.detection.backbones import create_encoder, encoder_channels
from models.detection.baselines import BASELINES
from models.detection.detector import FusionDetector, SingleDetector
from models.detection.fusions import baseline_fusions, found_fusions, searchable_fusions
from models.detection.heads.efficientdet import DetectionHead
from models.detection.necks.bifpn import BiFPN
from models.detection.streams import INPUTS, MODALITIES, Normalize, Streams, input_channels
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.space import fusion_space, random_genotype
from models.search.fusion_cells.supernet import SearchableFusion
from tasks.detection.flira import FLIRA

STATISTICS = {"rgb": ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2)), "thermal": ((0.5,) * 3, (0.25,) * 3)}
LEVELS = [(12, 20), (6, 10), (3, 5), (2, 3)]  # of 90 x 154 px by the ceil rule


def detector(kind: str) -> FusionDetector:
    torch.manual_seed(0)
    streams = Streams("lcnet_050", 16, 2, 4, BASELINES[kind][0] if kind in BASELINES else MODALITIES)
    if kind == "search":
        fusions = searchable_fusions(CellSpace(4, 16), 4, 0.0)
    elif kind == "found":
        fusions = found_fusions(random_genotype(fusion_space(streams.tap_names, streams.level_names, 16), 1), 0.2)
    else:
        fusions = baseline_fusions(kind, 16, 4)
    return FusionDetector(streams, fusions, DetectionHead(16, 3, num_levels=4, anchor_scale=2.0), STATISTICS).eval()


def batch(num: int = 2, boxes: bool = True) -> dict:
    draws = torch.Generator().manual_seed(0)
    found = torch.tensor([[10.0, 12.0, 40.0, 50.0], [60.0, 20.0, 75.0, 44.0]])
    return {
        "images": {
            "rgb": torch.randint(256, (num, 3, 90, 154), generator=draws).byte(),
            "thermal": torch.randint(256, (num, 1, 90, 154), generator=draws).byte(),
        },
        "image_size": (90, 154),
        "boxes_xyxy": (found if boxes else torch.zeros(2, 4)).repeat(num, 1, 1),
        "labels": (torch.arange(2) if boxes else torch.tensor([-1, -1])).repeat(num, 1),
        "image_ids": list(range(num)),
        "file_names": [f"{i}.jpg" for i in range(num)],
        "scales": torch.ones(num),
        "original_sizes": torch.tensor([[90, 154]] * num),
    }


@pytest.mark.parametrize("kind", ["search", "found", *BASELINES])
def test_shapes_losses_and_gradients(kind):
    model, data = detector(kind).train(), batch()
    out = model(data["images"])
    assert [tuple(x.shape) for x in out.class_logits] == [(2, 27, *size) for size in LEVELS]
    assert [tuple(x.shape) for x in out.box_deltas] == [(2, 36, *size) for size in LEVELS]
    found = FLIRA.losses(model, data)
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


@pytest.mark.parametrize("baseline", ["thermal", "rgb", "rgb_twice"])
def test_a_single_modality_reads_nothing_else(baseline):
    model, data = detector(baseline), batch()
    (own,) = BASELINES[baseline][0]
    alone = model({own: data["images"][own]})
    assert alone.class_logits[0].shape == (2, 27, *LEVELS[0])
    assert {name.split(".")[1].split("_")[0] for name in model.state_dict() if name.startswith("streams.")} == {own}


def test_the_stacked_stream_reads_both():
    model, images = detector("early"), batch()["images"]
    whole = model(images).class_logits[0]
    for name in images:
        assert not torch.equal(model(images | {name: 255 - images[name]}).class_logits[0], whole)


@pytest.mark.parametrize("stream", INPUTS)
def test_streams_get_what_they_read(stream):
    images = batch()["images"]
    x = Normalize(STATISTICS)(images, stream)
    assert x.shape == (2, input_channels(stream), 90, 154)
    grey, colour = (images["thermal"] / 255 - 0.5) / 0.25, images["rgb"] / 255
    colour = (colour - torch.tensor(STATISTICS["rgb"][0]).view(3, 1, 1)) / 0.2
    expected = {"thermal": [grey] * 3, "rgb": [colour], "early": [colour, grey]}[stream]
    torch.testing.assert_close(x, torch.cat(expected, dim=1), rtol=1e-5, atol=1e-5)


def test_taps_are_thermal_then_rgb_and_one_per_repeat():
    model, data = detector("search"), batch()
    floats = {m: model.normalize(data["images"], m) for m in MODALITIES}
    taps = model.streams(floats)
    assert model.streams.tap_names == ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2")
    assert [len(level) for level in taps] == [4] * 4
    no_rgb = model.streams(floats | {"rgb": torch.zeros_like(floats["rgb"])})
    for level, other in zip(taps, no_rgb, strict=True):
        assert [torch.equal(a, b) for a, b in zip(level, other, strict=True)] == [True, True, False, False]


def test_normalisation_by_modality_and_grey_to_three_channels():
    normalize = Normalize(STATISTICS)
    grey = normalize({"thermal": torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)}, "thermal")
    assert grey.shape == (1, 3, 2, 2)
    torch.testing.assert_close(grey, torch.full((1, 3, 2, 2), 2.0))
    colour = normalize({"rgb": torch.zeros(1, 3, 2, 2, dtype=torch.uint8)}, "rgb")
    torch.testing.assert_close(colour[0, :, 0, 0], torch.tensor([-2.0, -2.5, -3.0]))


def test_images_without_boxes():
    model, data = detector("found").train(), batch(boxes=False)
    found = FLIRA.losses(model, data)
    assert found["box_loss"] == 0
    assert torch.isfinite(found["loss"])
    detections = FLIRA.predict(model.eval(), data)
    assert all((d["boxes_xyxy"][:, 2:] <= torch.tensor([154.0, 90.0])).all() for d in detections)


@pytest.mark.parametrize("stream", INPUTS)
def test_a_single_detector_gives_its_stream_to_the_fused_one(stream):
    torch.manual_seed(1)
    encoder = create_encoder("lcnet_050", in_channels=input_channels(stream))
    fpn = BiFPN(encoder_channels(encoder), 16, 2, 4)
    single = SingleDetector(
        stream, encoder, fpn, DetectionHead(16, 3, num_levels=4, anchor_scale=2.0), STATISTICS
    ).eval()
    streams = Streams("lcnet_050", 16, 2, 4, (stream,))
    streams.load_state_dict(single.stream_state())
    fused = FusionDetector(streams, baseline_fusions(stream, 16, 4), single.head, STATISTICS).eval()
    images = batch()["images"]
    for a, b in zip(single(images).class_logits, fused(images).class_logits, strict=True):
        assert torch.equal(a, b)


def test_supernets_are_found_by_part_and_place():
    model = detector("search")
    parts = model.searchables()
    assert list(parts) == ["fusion"]
    assert list(parts["fusion"]) == ["P3", "P4", "P5", "P6"]
    assert all(a is b for a, b in zip(parts["fusion"].values(), model.fusions, strict=True))
    assert detector("found").searchables() == detector("sum").searchables() == {}


class Towers(nn.Module):
    """Two plain towers, for classes and boxes."""

    def __init__(self):
        super().__init__()
        self.cls, self.box = (SearchableFusion(CellSpace(2, 16, 1, 1)) for _ in range(2))

    def forward(self, maps):
        return [self.cls([x, x]) for x in maps], [self.box([x, x]) for x in maps]


def framed() -> FusionDetector:
    """Return a detector with every bracket: a neck that leaves out the finest level, and searchable towers."""
    torch.manual_seed(0)
    streams = Streams("lcnet_050", 16, 2, 4)
    head = DetectionHead(16, 3, repeats=0, num_levels=3)
    fusions = baseline_fusions("concat_conv", 16, 4)
    return FusionDetector(streams, fusions, head, STATISTICS, neck=Coarser(), towers=Towers())


class Coarser(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1)

    def forward(self, maps):
        return [self.conv(x) for x in maps[1:]]


def test_every_bracket_of_the_frame_is_run_and_learns():
    model, images = framed().train(), batch()["images"]
    output = model(images)
    assert [x.shape[-2:] for x in output.class_logits] == LEVELS[1:]
    classes, boxes = model.towers(model.neck(model.pyramid(images)))
    again = model.head(classes, boxes)
    assert all(torch.equal(a, b) for a, b in zip(output.box_deltas, again.box_deltas, strict=True))
    (output.class_logits[0].sum() + output.box_deltas[0].sum()).backward()
    for part in (model.neck, model.towers.cls, model.towers.box):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_searchable_towers_are_places_of_the_head():
    model = framed()
    assert model.searchables() == {"head": {"cls": model.towers.cls, "box": model.towers.box}}
    assert model.blocks()[-3:] == [model.neck, model.towers, model.head]


def test_frozen_parts_keep_weights_and_statistics():
    model = framed()
    model.freeze_parts(["head", "neck"])
    model.train()
    assert model.fusions.training
    assert not any(m.training for part in (model.neck, model.towers, model.head) for m in part.modules())
    learning = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"fusions"}


def test_state_dict_names_are_those_of_released_files():
    """Old checkpoints load: the names of brackets that are empty do not appear."""
    assert {name.partition(".")[0] for name in detector("concat_conv").state_dict()} == {
        "normalize", "streams", "fusions", "head"
    }  # fmt: skip
