"""Every part of the detector against effdet, called live with the same random weights (effdet 0.4.1 is test-only).

Differences are relative to max(1, |value|): unscaled random weights make the BiFPN's values large.
"""

import copy

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from models.detection.anchors import level_sizes, make_anchors
from models.detection.backbones import create_encoder, encode
from models.detection.heads.anchor_losses import detection_losses
from models.detection.heads.anchor_targets import Targets, assign_targets
from models.detection.heads.efficientdet import DetectionHead, HeadOutput
from models.detection.heads.head import flatten_levels
from models.detection.necks.bifpn import BiFPN

effdet = pytest.importorskip("effdet", reason="effdet, the test-only oracle, is not installed")
effdet_anchors = pytest.importorskip("effdet.anchors")
effdet_bench = pytest.importorskip("effdet.bench")
effdet_loss = pytest.importorskip("effdet.loss")

IMAGE_SIZES = [(128, 256), (320, 192)]
NUM_CLASSES = 90
TOLERANCE = 1e-5


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    difference = ((ours.double() - theirs.double()).abs() / theirs.double().abs().clamp(min=1)).max().item()
    assert difference <= TOLERANCE, difference


def oracle_config(image_size):
    config = effdet.get_efficientdet_config("efficientdetv2_dt")
    config.image_size = image_size
    return config


def oracle_anchors(image_size):
    return effdet_anchors.Anchors(3, 7, 3, [1.0, 2.0, 0.5], 4.0, image_size)


def randomise(model):
    """Move everything that starts at a constant: norms, their statistics, biases, edge weights (some below 0)."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("edge_weights"):
            tensor.uniform_(-0.3, 1.5)
        elif name.endswith(("running_mean", "bias")):
            tensor.add_(torch.randn_like(tensor) * 0.3)


@pytest.fixture(scope="module", params=IMAGE_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def run(request):
    """BiFPN and heads of both on one batch of encoder maps, ours with effdet's state dicts."""
    torch.manual_seed(0)
    image_size = request.param
    theirs = effdet.EfficientDet(oracle_config(image_size), pretrained_backbone=False).eval()
    parts = {"fpn": theirs.fpn, "class_net": theirs.class_net, "box_net": theirs.box_net}
    start_values = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    for part in parts.values():
        randomise(part)
    fpn = BiFPN([48, 128, 208], 128, 5).eval()
    head = DetectionHead(128, NUM_CLASSES).eval()
    fpn.load_state_dict(theirs.fpn.state_dict())
    head.fusion_class_net.load_state_dict(theirs.class_net.state_dict())
    head.fusion_box_net.load_state_dict(theirs.box_net.state_dict())

    sizes = level_sizes(image_size, 3)
    features = [torch.randn(2, channels, *size) for channels, size in zip([48, 128, 208], sizes, strict=True)]
    their_taps = []
    for cell in theirs.fpn.cell:
        cell.register_forward_hook(lambda module, inputs, output: their_taps.append(list(output)))
    with torch.no_grad():
        their_maps = theirs.fpn(list(features))
        their_output = HeadOutput(theirs.class_net(their_maps), theirs.box_net(their_maps))
        taps = fpn(features, image_size)
        output = head(taps[-1])
    return {
        "image_size": image_size,
        "taps": (taps, their_taps),
        "output": (output, their_output),
        "backbone": theirs.backbone,
        "start_values": start_values,
    }


def test_encoder(run):
    """Names, and the choice of maps: effdet's backbone weights in our encoder."""
    theirs, ours = run["backbone"], create_encoder("efficientnetv2_rw_t").eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for our_map, their_map in zip(encode(ours, images), theirs(images), strict=True):
            assert_close(our_map, their_map)


def test_bifpn_repeats(run):
    ours, theirs = run["taps"]
    assert len(ours) == len(theirs) == 5
    for our_levels, their_levels in zip(ours, theirs, strict=True):
        for our_map, their_map in zip(our_levels, their_levels, strict=True):
            assert_close(our_map, their_map)


def test_head_output(run):
    for ours, theirs in zip(*run["output"], strict=True):
        for our_map, their_map in zip(ours, theirs, strict=True):
            assert_close(our_map, their_map)


@pytest.mark.parametrize("image_size", [*IMAGE_SIZES, (97, 131)])
@pytest.mark.parametrize("anchor_scale", [4.0, 2.5])
def test_anchors(image_size, anchor_scale):
    theirs = effdet_anchors.Anchors(3, 7, 3, [1.0, 2.0, 0.5], anchor_scale, image_size).boxes
    assert_close(make_anchors(image_size, 5, anchor_scale), theirs[:, [1, 0, 3, 2]])


def example_boxes(image_size):
    """Random boxes; boxes with ties, shared best anchors, tiny ones without any anchor at IoU 0.5; none."""
    height, width = image_size
    corners = torch.rand(40, 2, 2) * torch.tensor([width, height])
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)
    tiny = torch.tensor([[17.0, 30.0, 19.0, 31.0], [64.0, 64.0, 65.0, 65.0], [63.0, 63.0, 65.0, 65.0]])
    tied = torch.tensor([[8.0, 8.0, 40.0, 40.0], [8.0, 8.0, 40.0, 40.0], [64.0, 40.0, 96.0, 88.0]])
    special = torch.cat([tied, tiny, tiny.flip(0)])
    return [boxes, special, torch.zeros(0, 4)]


def oracle_targets(image_size, boxes, labels):
    labeler = effdet_anchors.AnchorLabeler(oracle_anchors(image_size), NUM_CLASSES)
    yxyx = [image[:, [1, 0, 3, 2]] for image in boxes]
    return labeler.batch_label_anchors(yxyx, [image.float() + 1 for image in labels])


def as_ours(classes, box_deltas, num_positives):
    flat_classes = torch.cat([level.flatten(1) for level in classes], dim=1)
    flat_deltas = torch.cat([level.reshape(len(level), -1, 4) for level in box_deltas], dim=1)
    return Targets(flat_classes, flat_deltas, num_positives.sum())


@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_targets(image_size):
    torch.manual_seed(1)
    boxes = example_boxes(image_size)
    labels = [torch.randint(0, NUM_CLASSES, (len(image),)) for image in boxes]
    batch = pad_sequence(boxes, batch_first=True), pad_sequence(labels, batch_first=True, padding_value=-1)
    ours = assign_targets(make_anchors(image_size, 5, 4.0), *batch)
    theirs = as_ours(*oracle_targets(image_size, boxes, labels))
    assert torch.equal(ours.classes, theirs.classes)
    assert_close(ours.box_deltas, theirs.box_deltas)
    assert ours.num_positives == theirs.num_positives > 40


@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_losses_and_gradients(image_size):
    torch.manual_seed(2)
    boxes = example_boxes(image_size)
    labels = [torch.randint(0, NUM_CLASSES, (len(image),)) for image in boxes]
    classes, box_deltas, num_positives = oracle_targets(image_size, boxes, labels)
    sizes = [tuple(level.shape[1:3]) for level in classes]
    logits = [(torch.randn(3, 9 * NUM_CLASSES, *size) * 3).requires_grad_() for size in sizes]
    deltas = [(torch.randn(3, 36, *size) * 0.2).requires_grad_() for size in sizes]
    inputs = [*logits, *deltas]

    loss = effdet_loss.DetectionLoss(oracle_config(image_size))
    theirs = loss(logits, deltas, classes, box_deltas, num_positives)
    flat = flatten_levels(logits, NUM_CLASSES), flatten_levels(deltas, 4)
    ours = detection_losses(*flat, as_ours(classes, box_deltas, num_positives))
    for name, value in zip(["loss", "class_loss", "box_loss"], theirs, strict=True):
        assert_close(ours[name], value.reshape(()))
    our_gradients = torch.autograd.grad(ours["loss"], inputs)
    their_gradients = torch.autograd.grad(theirs[0], inputs)
    for part in (slice(0, 5), slice(5, 10)):
        scale = max(gradient.abs().max() for gradient in their_gradients[part])
        assert scale > 0
        for our_gradient, their_gradient in zip(our_gradients[part], their_gradients[part], strict=True):
            assert_close(our_gradient / scale, their_gradient / scale)


def oracle_detections(output, image_size, scale, original_size):
    """The effdet bench on a given head output: (B, 100, 6) of xyxy, score, class from 1 on."""
    bench = effdet_bench.DetBenchPredict(GivenOutput(oracle_config(image_size), output)).eval()
    batch = len(output.class_logits[0])
    height, width = original_size
    info = {"img_scale": torch.full((batch,), 1 / scale), "img_size": torch.tensor([[width, height]] * batch).float()}
    with torch.no_grad():
        return bench(torch.zeros(batch, 3, *image_size), info)


class GivenOutput(torch.nn.Module):
    """A model that answers with a given head output."""

    def __init__(self, config, output):
        super().__init__()
        self.config, self.output = config, output

    def forward(self, images):
        return self.output


@pytest.mark.parametrize("spread", [1.0, 0.02], ids=["network", "narrow"])
def test_detections(run, spread):
    """With the network's own output, and with deltas scaled down so that non-maximum suppression has work to do."""
    image_size, output = run["image_size"], run["output"][1]
    spread_output = HeadOutput(output.class_logits, [level * spread for level in output.box_deltas])
    scale, original_size = 0.5, (image_size[0] * 2, image_size[1] * 2 - 60)
    theirs = oracle_detections(spread_output, image_size, scale, original_size)
    scales, sizes = torch.full((2,), scale), torch.tensor([original_size] * 2)
    batch = {"image_size": image_size, "scales": scales, "original_sizes": sizes}
    ours = DetectionHead(128, NUM_CLASSES).detect(spread_output, batch)
    for image, expected in zip(ours, theirs, strict=True):
        expected = expected[expected[:, 4] > 0]
        assert torch.equal(image["labels"] + 1, expected[:, 5].long())
        assert_close(image["scores"], expected[:, 4])
        assert_close(image["boxes_xyxy"], expected[:, :4])


def test_flatten_levels_puts_logits_in_anchor_order(run):
    """A logit of one (level, row, column, anchor, class) must come out at that anchor's place."""
    logits = run["output"][0].class_logits
    flat = flatten_levels(logits, NUM_CLASSES)
    first_level = logits[0].shape[2] * logits[0].shape[3] * 9
    width = logits[1].shape[3]
    assert torch.equal(flat[1, first_level + (2 * width + 3) * 9 + 4, 7], logits[1][1, 4 * NUM_CLASSES + 7, 2, 3])


def test_start_values_have_effdets_spread(run):
    """Fresh weights of both: the same standard deviation per weight, as far as the sample tells; the rest equal."""
    torch.manual_seed(3)
    head = DetectionHead(128, NUM_CLASSES)
    ours = {"fpn": BiFPN([48, 128, 208], 128, 5), "class_net": head.fusion_class_net, "box_net": head.fusion_box_net}
    for part, module in ours.items():
        expected = run["start_values"][part]
        for name, value in module.state_dict().items():
            if value.dim() == 4:
                assert value.std().item() == pytest.approx(expected[name].std().item(), rel=0.15), name
                # uniform and normal differ in kurtosis: 1.8 and 3
                assert kurtosis(value) == pytest.approx(kurtosis(expected[name]), abs=0.9), name
            else:
                torch.testing.assert_close(value, expected[name])


def kurtosis(values):
    centred = values - values.mean()
    return (centred.pow(4).mean() / centred.pow(2).mean() ** 2).item()
