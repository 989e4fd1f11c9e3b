"""The fused classifier: published parameter counts, pooling against loops, cached taps, frozen encoders."""

import pytest
import torch
from torch import nn

from models.classification.encoders import ENCODERS
from models.classification.encoders.statistics import GREY, IMAGENET
from models.classification.encoders.vgg import PosterEncoder
from models.classification.fused_classifier import Encoders, FusionClassifier, LateFusion, normalised, pool
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import CellGenotype, StepGenotype
from models.search.fusion_cells.supernet import SearchableFusion

SIZES = {
    "mmimdb": (23, 192, 16, True, 1, {"image": (3, 256, 160), "text": (300,)}, "vgg19"),
    "ntu": (60, 128, 8, False, 2, {"rgb": (3, 8, 256, 256), "skeleton": (3, 32, 25, 2)}, "resnet50"),
    "ego": (83, 128, 8, False, 3, {"rgb": (3, 32, 112, 112), "depth": (1, 32, 112, 112)}, "resnext101"),
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def published(name: str) -> FusionClassifier:
    """Return the searchable classifier at published sizes, without memory."""
    classes, channels, length, square, steps, inputs, backbone = SIZES[name]
    with torch.device("meta"):
        encoders = {m: ENCODERS[name][m](backbone, classes, False) for m in inputs}
        streams = Encoders(encoders, length, square)
        space = CellSpace(len(streams.tap_names), channels, 2, 2, steps, steps, name="bmnas", length=length)
        return FusionClassifier(streams, SearchableFusion(space), channels, classes, 0.1)


@pytest.mark.parametrize(
    ("name", "reshape", "classifier"), [("mmimdb", 433_536, 141_335), ("ntu", 969_728, 122_940), ("ego", None, None)]
)
def test_parameters_are_as_many_as_published_and_shapes_fit(name, reshape, classifier):
    model, (classes, _, _, _, _, inputs, _) = published(name), SIZES[name]
    assert reshape in (None, count(model.reshape))
    assert classifier in (None, count(model.head))
    pictures = ("image", "rgb", "depth")
    types = {m: torch.uint8 if m in pictures else torch.float32 for m in inputs}
    batch = {m: torch.empty(2, *shape, dtype=types[m], device="meta") for m, shape in inputs.items()}
    assert model(batch).shape == (2, classes)
    assert len(model.streams.tap_names) == {"mmimdb": 6}.get(name, 8)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("Sum", 260_352), ("ScaleDotAttn", 272_640), ("LinearGLU", 557_568), ("ConcatFC", 408_960)],
)
def test_a_found_network_makes_sequences_of_the_taps_that_it_reads_alone(operation, expected):
    streams = published("mmimdb").streams
    step = StepGenotype((("skip", 0), ("skip", 1)), (operation,), (2,))
    cell = CellGenotype(tuple(("skip", s) for s in (2, 5, 3, 4)), (step, step), (6, 7))
    features = CellSpace(6, 192, name="bmnas", length=16).features
    with torch.device("meta"):
        model = FusionClassifier(streams, FoundFusion(cell, features), 192, 23, 0.1)
    assert count(model.reshape) + count(model.fusions) == expected


def test_pooling_is_the_maximum_of_each_piece():
    torch.manual_seed(0)
    clip, picture = torch.randn(2, 3, 8, 5, 7), torch.randn(2, 3, 8, 12)
    along_time = torch.stack([clip[:, :, 2 * n : 2 * n + 2].amax(dim=(2, 3, 4)) for n in range(4)], dim=2)
    torch.testing.assert_close(pool(clip, 4, square=False), along_time)
    along_height = torch.stack([picture[:, :, 2 * n : 2 * n + 2].amax(dim=(2, 3)) for n in range(4)], dim=2)
    torch.testing.assert_close(pool(picture, 4, square=False), along_height)
    pieces = [picture[:, :, 4 * i : 4 * i + 4, 6 * j : 6 * j + 6].amax(dim=(2, 3)) for i in (0, 1) for j in (0, 1)]
    torch.testing.assert_close(pool(picture, 4, square=True), torch.stack(pieces, dim=2))
    vector = torch.randn(2, 3)
    assert torch.equal(pool(vector, 4, square=True), vector[:, :, None])


def small() -> FusionClassifier:
    torch.manual_seed(0)
    encoders = {m: ENCODERS["mmimdb"][m]("test_efficientnet", 5, False) for m in ("image", "text")}
    space = CellSpace(6, 8, 2, 2, 1, 1, name="bmnas", length=4)
    return FusionClassifier(Encoders(encoders, 4, True), SearchableFusion(space), 8, 5, 0.0)


BATCH = {"image": torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8), "text": torch.randn(3, 300)}


def test_cached_taps_give_what_inputs_give():
    model = small().eval()
    with torch.no_grad():
        cached = {m: model.encode_for_cache(BATCH, m, "pooled") for m in BATCH}
    torch.testing.assert_close(model(cached), model(BATCH))
    assert sum(tap[0].numel() for taps in cached.values() for tap in taps) * 4 < 20_000  # bytes of an example


def test_encoders_rest_until_they_are_let_go():
    model = small().train()
    assert not any(m.training for m in model.streams.modules())
    model(BATCH).sum().backward()
    assert all(p.grad is None for p in model.streams.parameters())
    assert all(p.grad is not None for p in model.reshape.parameters())  # a fault of the public code
    model.streams.unfreeze()
    model(BATCH).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.streams.image_encoder.parameters())
    assert not any(m.training for m in model.streams.modules())


@pytest.mark.parametrize("concat", [False, True])
def test_late_fusion_is_of_the_last_taps(concat):
    features = [torch.randn(2, 3, 4) for _ in range(4)]
    fusion = LateFusion([1, 3], concat)
    expected = torch.cat((features[1], features[3]), dim=1) if concat else features[1] + features[3]
    assert torch.equal(fusion(features), expected)
    assert fusion.width == (2 if concat else 1)


def test_pictures_are_normalised_and_other_inputs_are_not():
    white = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(normalised(white, IMAGENET)[0, :, 0, 0], expected)
    words = torch.randn(2, 300)
    assert normalised(words, None) is words
    assert normalised(words, IMAGENET) is words


def test_pictures_are_normalised_by_the_statistics_of_their_encoder():
    """Not by their number of channels: two channels, as of optical flow, have statistics as well."""
    streams = published("ego").streams
    assert (streams.encoder("rgb").statistics, streams.encoder("depth").statistics) == (IMAGENET, GREY)
    flow = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 4, 2, 2)
    seen = normalised(flow, ((0.5, 0.5), (0.25, 0.5)))
    assert seen[0, :, 0, 0, 0].tolist() == [-2, 1]


def test_encoders_give_maps_as_well_as_pooled_taps():
    streams = Encoders({"image": PosterEncoder(3)}, 16, True)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    maps = streams.maps("image", images)
    assert [tuple(m.shape) for m in maps] == [(1, 512, 8, 8), (1, 512, 8, 8), (1, 512, 4, 4), (1, 512, 2, 2)]
    for tap, vector in zip(maps, streams.pooled("image", images), strict=True):
        assert torch.equal(pool(tap, 16, True), vector)


def test_the_supernet_is_found_by_part_and_place():
    model = published("mmimdb")
    assert model.searchables() == {"fusion": {"fusion": model.fusions[0]}}
