"""RetinaNet against torchvision's where both mean the same, loops, and numbers of public losses."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops import box_iou, sigmoid_focal_loss

from models.detection.anchors import NUM_ANCHORS, level_sizes, make_anchors
from models.detection.heads.efficientdet import HeadOutput
from models.detection.heads.retinanet import RetinaNetHead
from models.detection.heads.retinanet_losses import (
    AnchorTargets,
    assign_anchors,
    decode_boxes,
    normalizers,
    retinanet_losses,
)
from models.detection.towers import PlainTower, Towers
from models.search.parameters import count_parameters
from tests.models.detection.heads.exported import check_exported_steps
from tests.models.detection.heads.test_fcos import BOXES, IMAGE_SIZE, SIZES, Fixed, batch_of, maps_of
from tests.thread_ranks import together

ANCHORS = make_anchors((128, 256), 5, 4.0)
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def learned_head() -> RetinaNetHead:
    """A head whose scores are not all alike."""
    torch.manual_seed(0)
    head = RetinaNetHead(8, 3).eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    nn.init.normal_(head.cls_logits.weight, std=0.3)
    return head


def random_boxes(count: int) -> torch.Tensor:
    first, sides = torch.rand(count, 2) * torch.tensor([200.0, 100]), torch.rand(count, 2) ** 2 * 120 + 3
    return torch.cat([first, first + sides], dim=1)


def test_parameters_at_the_published_size_with_plain_towers_without_norms():
    with torch.device("meta"):
        towers = Towers(256, norm=False)
        assert count_parameters(towers) + count_parameters(RetinaNetHead(256, 80)) == 6_463_220
    assert [type(layer).__name__ for layer in PlainTower(16, norm=False)[0]] == ["Conv2d", "ReLU"]


def test_targets_equal_torchvisions_matcher_and_coder():
    """Ignored anchors, and anchors that a box keeps as its best; the second image has fewer boxes, the third none."""
    torch.manual_seed(0)
    boxes, labels = torch.zeros(3, 9, 4), torch.full((3, 9), -1)
    for image, count in enumerate((9, 3)):
        boxes[image, :count], labels[image, :count] = random_boxes(count), torch.randint(5, (count,))
    boxes[0, 8] = boxes[0, 0]
    targets = assign_anchors(ANCHORS, boxes, labels)
    assert (targets.classes[2] == -1).all()
    for image, count in enumerate((9, 3)):
        owned = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(boxes[image, :count], ANCHORS))
        classes = labels[image, owned.clamp(min=0)].where(owned >= 0, owned)
        assert torch.equal(targets.classes[image], classes)
        assert (owned == -2).any()
        positive = owned >= 0
        (codes,) = CODER.encode([boxes[image, owned[positive]]], [ANCHORS[positive]])
        torch.testing.assert_close(targets.codes[image, positive], codes, rtol=1e-4, atol=1e-4)
        assert not targets.codes[image, ~positive].any()


def test_decoding_equals_torchvisions():
    codes = torch.randn(len(ANCHORS), 4) * 20
    torch.testing.assert_close(decode_boxes(codes, ANCHORS), CODER.decode_single(codes, ANCHORS), rtol=1e-4, atol=1e-2)


def test_detections_equal_torchvisions():
    backbone = nn.Identity()
    backbone.out_channels = 8
    theirs = RetinaNet(backbone, 3, score_thresh=0.05, nms_thresh=0.4, detections_per_img=100, topk_candidates=1000)
    theirs.box_coder = CODER
    head, size = learned_head(), IMAGE_SIZE
    output = head(maps_of(2))
    logits, values = head.flatten(output)
    lengths = [NUM_ANCHORS * rows * columns for rows, columns in SIZES]
    parts = {"cls_logits": list(logits.split(lengths, 1)), "bbox_regression": list(values.split(lengths, 1))}
    anchors = [list(head.locations(size).split(lengths))] * 2
    expected = theirs.postprocess_detections(parts, anchors, [size] * 2)
    for found, other in zip(head.detect(output, batch_of([], [])), expected, strict=True):
        assert len(found["scores"]) == 100
        torch.testing.assert_close(found["boxes_xyxy"], other["boxes"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found["scores"], other["scores"])
        assert torch.equal(found["labels"], other["labels"])


def test_losses_equal_those_of_the_anchors_that_teach():
    torch.manual_seed(0)
    logits, codes = torch.randn(2, 60, 3).double().requires_grad_(), torch.randn(2, 60, 4).double()
    targets = AnchorTargets(torch.randint(-2, 3, (2, 60)), torch.randn(2, 60, 4).double())
    losses = retinanet_losses(logits, codes, targets, normalizers(targets))
    taught, positive = targets.classes >= -1, targets.classes >= 0
    one_hot = F.one_hot(targets.classes.clamp(min=0), 3) * positive[..., None]
    focal = sigmoid_focal_loss(logits, one_hot.double(), alpha=0.25, gamma=2)[taught].sum()
    expected = focal / (positive.sum() + 2)
    torch.testing.assert_close(losses["class_loss"], expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (losses["class_loss"], expected)))
    apart = F.smooth_l1_loss(codes[positive], targets.codes[positive], reduction="sum", beta=0.11)
    torch.testing.assert_close(losses["box_loss"], apart / (4 * positive.sum()))


def test_losses_equal_numbers_of_the_public_code():
    folder = os.environ.get("NAS_DSF_REFERENCE")
    if not folder:
        pytest.skip("NAS_DSF_REFERENCE, the folder of the reference data, is not set")
    with np.load(Path(folder) / "nas_fcos_reference.npz") as arrays:
        start = "detector/retinanet/"
        stored = {k.removeprefix(start): torch.from_numpy(arrays[k]) for k in arrays.files if k.startswith(start)}
    levels = [f"P{level}" for level in range(3, 8)]
    output = HeadOutput(*([stored[f"{kind}/{level}"] for level in levels] for kind in ("logits", "deltas")))
    labels = torch.stack([stored[f"labels{image}"] for image in range(2)]).long()
    classes = (labels - 1).where(labels >= 0, -2)
    targets = AnchorTargets(classes, torch.stack([stored[f"targets{image}"] for image in range(2)]))
    losses = retinanet_losses(*RetinaNetHead(8, 3).flatten(output), targets, normalizers(targets).double())
    found = torch.stack([losses["class_loss"], losses["box_loss"]])
    torch.testing.assert_close(found, stored["losses"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("images", [(BOXES, []), ([], [])])
def test_images_without_boxes(images):
    head = RetinaNetHead(8, 3)
    losses = head.losses(head(maps_of(2)), batch_of(*images))
    assert losses["loss"].isfinite()
    assert (losses["box_loss"] == 0) == (not images[0])
    losses["loss"].backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    assert head.cls_logits.weight.grad.any()


def test_two_ranks_have_the_loss_of_one():
    batch, maps, head = batch_of(BOXES, BOXES[1:], [], BOXES[:1]), maps_of(4), learned_head()
    expected = head.losses(head(maps), batch)

    def share(ranks):
        part = slice(2 * ranks.number, 2 * ranks.number + 2)
        cut = {name: batch[name][part] for name in ("boxes_xyxy", "labels")}
        single = copy.deepcopy(head)
        return single.losses(single([x[part] for x in maps]), batch | cut, ranks)

    results = together(2, share)
    for name in expected:
        torch.testing.assert_close(sum(losses[name] for losses in results) / 2, expected[name])


@pytest.mark.parametrize("num_classes", [3, 100])
def test_a_head_that_has_learned_nothing_finds_nothing(num_classes):
    head = RetinaNetHead(8, num_classes).eval()
    for found in head.detect(head(maps_of(2)), batch_of([], [])):
        assert found["boxes_xyxy"].shape == (0, 4)


def test_the_exported_steps_find_what_detect_finds():
    head = learned_head()
    check_exported_steps(Fixed(head), head, maps_of(2), batch_of([], []), IMAGE_SIZE, atol=1e-2)


def test_anchors_have_sides_of_32_to_512():
    anchors, sizes = RetinaNetHead(8, 3).locations((512, 512)), level_sizes((512, 512), 5)
    areas = (anchors[:, 2:] - anchors[:, :2]).prod(1).split([NUM_ANCHORS * r * c for r, c in sizes])
    assert [round(area.min().sqrt().item()) for area in areas] == [32, 64, 128, 256, 512]
