"""Encoders of classification: taps and parameter counts as published, weights of other libraries taken up."""

import pytest
import torch
from torchvision.models import resnet50

from models.classification.encoders.clips import InflatedResNet, ResNeXt101, inflate
from models.classification.encoders.hcn import SkeletonEncoder
from models.classification.encoders.maxout import Maxout, TextEncoder
from models.classification.encoders.vgg import PosterEncoder
from models.classification.fused_classifier import Encoders, FusionClassifier, LateFusion

CASES = {
    "poster": (
        lambda: PosterEncoder(23),
        (3, 256, 160),
        [(512, 32, 20), (512, 32, 20), (512, 16, 10), (512, 8, 5)],
        23,
    ),
    "text": (lambda: TextEncoder(23), (300,), [(64,), (128,)], 23),
    "skeleton": (lambda: SkeletonEncoder(60), (3, 32, 25, 2), [(128, 4, 4), (256, 2, 2), (1024,), (512,)], 60),
    "rgb": (
        lambda: InflatedResNet(60),
        (3, 8, 256, 256),
        [(512, 8, 32, 32), (1024, 8, 16, 16), (2048, 8, 8, 8), (2048,)],
        60,
    ),
    "depth": (
        lambda: ResNeXt101(83, in_channels=1),
        (1, 32, 112, 112),
        [(512, 8, 14, 14), (1024, 4, 7, 7), (2048, 2, 4, 4), (2048,)],
        83,
    ),
}


def on_meta(name: str) -> torch.nn.Module:
    """Return an encoder of published size without memory or work."""
    with torch.device("meta"):
        return CASES[name][0]()


@pytest.mark.parametrize("name", CASES)
def test_taps_and_scores_are_of_the_published_sizes(name):
    _, size, taps, classes = CASES[name]
    encoder, x = on_meta(name), torch.empty(2, *size, device="meta")
    found = encoder.taps(x)
    assert [tuple(t.shape) for t in found] == [(2, *shape) for shape in taps]
    assert list(encoder.channels.values()) == [shape[0] for shape in taps]
    assert encoder(x).shape == (2, classes)


@pytest.mark.parametrize("name", ["poster", "text", "rgb", "depth"])
def test_cached_taps_do_not_depend_on_the_classifier(name):
    encoder = on_meta(name)
    streams = Encoders({name: encoder}, length=4, square=False)
    kept = FusionClassifier(streams, LateFusion([0], concat=True), 8, 5, 0.0).cache_modules(name, "pooled")
    parameters = {id(p) for module in kept.values() for p in module.parameters()}
    without = {id(p) for p in encoder.parameters()} - {id(p) for p in encoder.classifier.parameters()}
    assert parameters == without
    encoder.classifier = None
    assert encoder.taps(torch.empty(2, *CASES[name][1], device="meta"))


@pytest.mark.parametrize(("name", "expected"), [("rgb", 46_265_468), ("skeleton", 1_062_652)])
def test_parameters_are_as_many_as_published(name, expected):
    assert sum(p.numel() for p in on_meta(name).parameters()) == expected


def test_a_still_clip_is_seen_as_its_frame():
    """What inflation is for: equal frames give what the flat network gives of one; at the ends of time, less."""
    torch.manual_seed(0)
    flat = resnet50().eval()
    for norm in (m for m in flat.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
    deep = InflatedResNet(60).eval()
    copy = resnet50().eval()
    copy.load_state_dict(flat.state_dict())
    inflate(copy)
    deep.stem[0].load_state_dict(copy.conv1.state_dict())
    deep.stem[1].load_state_dict(copy.bn1.state_dict())
    deep.stages[0].load_state_dict(copy.layer1.state_dict())
    frame = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        ours = deep.stages[0][0](deep.stem(frame[:, :, None].repeat(1, 1, 7, 1, 1)))
        theirs = flat.layer1[0](flat.maxpool(flat.relu(flat.bn1(flat.conv1(frame)))))
    torch.testing.assert_close(ours[:, :, 3], theirs, atol=1e-5, rtol=1e-4)


def test_maxout_is_the_largest_of_its_pieces():
    layer, x = Maxout(3, 2), torch.randn(4, 3)
    weight, bias = layer.linear.weight, layer.linear.bias
    pieces = torch.stack([x @ weight[p::5].T + bias[p::5] for p in range(5)])
    torch.testing.assert_close(layer(x), pieces.amax(dim=0))


def test_the_order_of_persons_does_not_matter():
    encoder, x = SkeletonEncoder(5).eval(), torch.randn(2, 3, 32, 25, 2)
    torch.testing.assert_close(encoder(x), encoder(x.flip(-1)))
    assert not torch.equal(encoder(x), encoder(x.flip(2)))  # of time it does
