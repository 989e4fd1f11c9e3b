"""FCOS's head: start, the order of its parts, evaluation, losses without boxes and on two ranks, detections, export."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.detection.anchors import level_sizes
from models.detection.heads.fcos import FCOSHead, PointOutput
from models.detection.heads.fcos_targets import assign_points
from models.search.parameters import count_parameters
from tests.models.detection.heads.exported import check_exported_steps
from tests.thread_ranks import together

IMAGE_SIZE = (90, 154)
SIZES = level_sizes(IMAGE_SIZE, 5)


def maps_of(num_images: int, channels: int = 8, seed: int = 0) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(num_images, channels, *size, generator=draws) for size in SIZES]


def batch_of(*images: list[list[float]]) -> dict:
    """Images with some boxes each, of classes 0, 1, 2, ..."""
    most = max(1, *(len(boxes) for boxes in images))
    boxes, labels = torch.zeros(len(images), most, 4), torch.full((len(images), most), -1)
    for image, found in enumerate(images):
        boxes[image, : len(found)] = torch.tensor(found).reshape(-1, 4)
        labels[image, : len(found)] = torch.arange(len(found))
    return {
        "boxes_xyxy": boxes,
        "labels": labels,
        "image_size": IMAGE_SIZE,
        "scales": torch.ones(len(images)),
        "original_sizes": torch.tensor([IMAGE_SIZE] * len(images)),
    }


BOXES = [[10.0, 12.0, 40.0, 50.0], [60.0, 20.0, 140.0, 84.0]]


def learned_head(seed: int = 0) -> FCOSHead:
    """A head whose scores are not all alike."""
    torch.manual_seed(seed)
    head = FCOSHead(8, 3).eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    nn.init.uniform_(head.scales, 0.5, 1.5)
    return head


def test_start_values():
    head = FCOSHead(64, 3)
    assert head.scales.tolist() == [1.0] * 5
    torch.testing.assert_close(head.cls_logits.bias.sigmoid(), torch.full((3,), 0.01))
    assert not head.bbox_pred.bias.any()
    assert not head.centerness.bias.any()
    for conv in (head.cls_logits, head.bbox_pred, head.centerness):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_parameters_at_the_published_size():
    assert count_parameters(FCOSHead(256, 80)) == 195_930


def test_predictions_by_functional_calls():
    head, classes, boxes = learned_head(), maps_of(2), maps_of(2, seed=1)
    output = head(classes, boxes)
    for level, (c, b) in enumerate(zip(classes, boxes, strict=True)):
        logits = F.conv2d(c, head.cls_logits.weight, head.cls_logits.bias, padding=1)
        sides = F.conv2d(b, head.bbox_pred.weight, head.bbox_pred.bias, padding=1) * head.scales[level]
        centerness = F.conv2d(b, head.centerness.weight, head.centerness.bias, padding=1)
        torch.testing.assert_close(output.class_logits[level], logits)
        torch.testing.assert_close(output.distances[level], sides.clamp(min=0))
        torch.testing.assert_close(output.centerness[level], centerness)


@pytest.mark.parametrize("training", [True, False])
def test_distances_are_never_negative_and_no_box_is_inverted(training):
    """The published code has the relu in training alone."""
    head = learned_head().train(training)
    _, values = head.flatten(head(maps_of(2)))
    assert values[..., :4].min() == 0
    boxes = head.decode(values, head.locations(IMAGE_SIZE))
    assert (boxes[..., 2:] >= boxes[..., :2]).all()


def test_a_box_comes_back_from_its_targets():
    """What the targets ask for is decoded to the box, in pixels of the original image."""
    head, batch = FCOSHead(8, 3), batch_of(BOXES)
    points = head.locations(IMAGE_SIZE)
    targets = assign_points(points, batch["boxes_xyxy"], batch["labels"])
    for number, box in enumerate(BOXES):
        places = (targets.classes[0] == number).nonzero().squeeze(1)
        decoded = head.decode(F.pad(targets.distances[0, places], (0, 1)), points[places])
        torch.testing.assert_close(decoded, torch.tensor([box]).expand(len(places), 4))


@pytest.mark.parametrize("images", [(BOXES, []), ([], [])])
@pytest.mark.parametrize("box_loss", ["giou", "iou", "linear_iou"])
def test_images_without_boxes(images, box_loss):
    """One in a batch, and only such: losses are finite, and every parameter has a gradient."""
    head = FCOSHead(8, 3, box_loss=box_loss)
    losses = head.losses(head(maps_of(2)), batch_of(*images))
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["class_loss"] > 0
    assert (losses["box_loss"] == 0) == (losses["centerness_loss"] == 0) == (not images[0])
    losses["loss"].backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    assert head.cls_logits.weight.grad.any()


def test_infinite_distances_of_the_background_do_not_reach_the_loss():
    head, batch = FCOSHead(8, 3), batch_of([], [])
    output = head(maps_of(2))
    distances = [torch.full_like(x, torch.inf).requires_grad_() for x in output.distances]
    loss = head.losses(output._replace(distances=distances), batch)["loss"]
    assert loss.isfinite()
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, distances))


def test_two_ranks_have_the_loss_and_the_gradients_of_one():
    """Their mean; the first has all boxes but one, so that neither has the positives of the whole batch."""
    batch, maps = batch_of(BOXES, BOXES[1:], [], BOXES[:1]), maps_of(4)
    start = learned_head()
    whole = copy.deepcopy(start)
    expected = whole.losses(whole(maps), batch)
    expected["loss"].backward()

    def share(ranks):
        part = slice(2 * ranks.number, 2 * ranks.number + 2)
        cut = {name: batch[name][part] for name in ("boxes_xyxy", "labels")}
        head = copy.deepcopy(start)
        losses = head.losses(head([x[part] for x in maps]), batch | cut, ranks)
        losses["loss"].backward()
        return losses, [p.grad for p in head.parameters()]

    results = together(2, share)
    for name in expected:
        torch.testing.assert_close(sum(losses[name] for losses, _ in results) / 2, expected[name])
    gradients = zip(*(found for _, found in results), strict=True)
    for (one, other), parameter in zip(gradients, whole.parameters(), strict=True):
        torch.testing.assert_close((one + other) / 2, parameter.grad, rtol=1e-4, atol=1e-5)


def test_half_precision_is_summed_in_float32():
    head, batch = learned_head(), batch_of(BOXES)
    half = PointOutput(*([x.bfloat16() for x in part] for part in head(maps_of(1))))
    exact = PointOutput(*([x.float() for x in part] for part in half))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = head.losses(half, batch)
    for name, value in head.losses(exact, batch).items():
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], value)


def loop_detect(head: FCOSHead, output: PointOutput, image: int, scale: float, size: tuple[int, int]) -> list[tuple]:
    """Candidates level by level, then greedy suppression; (score, label, box), the best first."""
    candidates = []
    for level, (rows, columns) in enumerate(SIZES):
        stride, found = 2 ** (level + 3), []
        parts = [part[level][image].double().tolist() for part in output]
        for row in range(rows):
            for column in range(columns):
                sides = [parts[1][i][row][column] * stride for i in range(4)]
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                box = [(x - sides[0]) / scale, (y - sides[1]) / scale, (x + sides[2]) / scale, (y + sides[3]) / scale]
                box = [min(max(v, 0.0), (size[1], size[0])[i % 2]) for i, v in enumerate(box)]
                near = 1 / (1 + math.exp(-parts[2][0][row][column]))
                for label in range(head.num_classes):
                    p = 1 / (1 + math.exp(-parts[0][label][row][column]))
                    if p > 0.05:
                        found.append((math.sqrt(p * near), label, box))
        candidates += sorted(found, reverse=True)[:30]
    kept = []
    for score, label, box in sorted(candidates, reverse=True):
        empty = box[0] >= box[2] or box[1] >= box[3]
        if not empty and all(label != other or iou(box, b) <= 0.6 for _, other, b in kept):
            kept.append((score, label, box))
    return kept[:100]


def iou(a: list[float], b: list[float]) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def test_detections_equal_the_loop(monkeypatch):
    """At most 30 candidates per level; the picture fills a part of the letterbox, so that some boxes are empty."""
    monkeypatch.setattr("models.detection.heads.level_detections.LEVEL_CANDIDATES", 30)
    head, scale, size = learned_head(), 0.5, (150, 240)
    output = head(maps_of(2))
    batch = {"image_size": IMAGE_SIZE, "scales": torch.full((2,), scale), "original_sizes": torch.tensor([size] * 2)}
    for image, found in enumerate(head.detect(output, batch)):
        expected = loop_detect(head, output, image, scale, size)
        assert 20 < len(expected) < 100
        assert found["labels"].tolist() == [label for _, label, _ in expected]
        assert found["scores"].tolist() == pytest.approx([score for score, _, _ in expected], rel=1e-4)
        torch.testing.assert_close(
            found["boxes_xyxy"], torch.tensor([box for *_, box in expected]), atol=1e-3, rtol=1e-4
        )


def test_a_head_that_has_learned_nothing_finds_nothing():
    """Classes start below the threshold: a black picture gives no boxes, and neither do outputs that are no numbers."""
    head, batch = FCOSHead(8, 3).eval(), batch_of([], [])
    output = head(maps_of(2))
    nothing = output._replace(class_logits=[x * torch.nan for x in output.class_logits])
    for found in (*head.detect(output, batch), *head.detect(nothing, batch)):
        assert found["boxes_xyxy"].shape == (0, 4)
        assert len(found["scores"]) == len(found["labels"]) == 0


def test_batched_equals_single():
    head = learned_head()
    maps, batch = maps_of(3), batch_of([], [], [])
    for image, found in enumerate(head.detect(head(maps), batch)):
        single = head([x[image : image + 1] for x in maps])
        (alone,) = head.detect(single, batch_of([]))
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
        assert torch.equal(found["labels"], alone["labels"])


class Fixed(nn.Module):
    """A detector whose maps are the input, as the export sees one."""

    def __init__(self, head: FCOSHead):
        super().__init__()
        self.head, self.streams = head, nn.Module()
        self.streams.modalities = ("rgb",)

    def forward(self, inputs):
        return self.head(list(inputs["rgb"]))


def test_the_exported_steps_find_what_detect_finds():
    """Without loops, and without boxes that have no area in the picture."""
    head = learned_head()
    check_exported_steps(Fixed(head), head, maps_of(2), batch_of([], []), IMAGE_SIZE, atol=1e-3)


def test_points_are_made_once_for_a_size():
    one, other = (FCOSHead(8, 3).locations(IMAGE_SIZE) for _ in range(2))
    assert one is other
