"""Anchor assignment against brute-force loops, and the round trip of box encoding."""

import math

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_iou

from models.detection.anchors import make_anchors
from models.detection.heads import anchor_targets as targets_module
from models.detection.heads.anchor_targets import assign_targets, decode_boxes, encode_boxes, match_anchors

ANCHORS = make_anchors((64, 96), 3, 4.0)


def iou_of(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def loop_match(anchors, boxes):
    anchors, boxes = anchors.tolist(), boxes.tolist()
    owned = [-1] * len(anchors)
    for i, anchor in enumerate(anchors):
        ious = [iou_of(box, anchor) for box in boxes]
        if max(ious) >= 0.5:
            owned[i] = ious.index(max(ious))
    taken = set()
    for j, box in enumerate(boxes):
        ious = [iou_of(box, anchor) for anchor in anchors]
        best = ious.index(max(ious))
        if best not in taken:
            owned[best] = j
            taken.add(best)
    return owned


def random_boxes(count, image_size=(64, 96)):
    corners = torch.rand(count, 2, 2, dtype=torch.float64) * torch.tensor([image_size[1], image_size[0]])
    return torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)


def padded(boxes, labels):
    """Images of different numbers of boxes as one batch; a last image of one box sees to M >= 1."""
    boxes, labels = [*boxes, torch.zeros(1, 4)], [*labels, torch.tensor([-1])]
    return pad_sequence(boxes, True)[:-1], pad_sequence(labels, True, padding_value=-1)[:-1]


def assign(boxes, labels):
    return assign_targets(ANCHORS, *padded(boxes, labels))


def one_image(anchors, boxes, labels):
    """The targets of an image by torchvision's overlaps, one box after another: classes (N,) and deltas (N, 4)."""
    owned, best = torch.full((len(anchors),), -1), torch.zeros(len(anchors))
    overlaps = box_iou(boxes, anchors)
    for j, overlap in enumerate(overlaps):
        owned[overlap > best] = j
        best = best.maximum(overlap)
    owned[best < 0.5] = -1
    for j in reversed(range(len(boxes))):  # so that the first box writes last
        owned[overlaps[j].argmax()] = j
    classes, deltas = torch.full((len(anchors),), -1), torch.zeros(len(anchors), 4)
    positive = owned >= 0
    classes[positive] = labels[owned[positive]]
    deltas[positive] = encode_boxes(boxes[owned[positive]], anchors[positive])
    return classes, deltas


@pytest.mark.parametrize("chunk", [3, 32])
def test_match_equals_the_loops(monkeypatch, chunk):
    """In float64, so that rounding makes no ties of its own; few boxes at once must change nothing, nor others' boxes.

    The second image has fewer boxes, the third none.
    """
    monkeypatch.setattr(targets_module, "BOXES_AT_ONCE", chunk)
    torch.manual_seed(0)
    anchors = make_anchors((64, 96), 3, 4.0).double()
    tied = torch.tensor([[8.0, 8, 40, 40], [8, 8, 40, 40], [20, 20, 21, 21], [20, 20, 22, 22]], dtype=torch.float64)
    images = [torch.cat([tied, random_boxes(30), tied.flip(0)]), random_boxes(9)]
    exists = torch.arange(38) < torch.tensor([[38], [9], [0]])
    owned = match_anchors(anchors, pad_sequence([*images, torch.zeros(0, 4)], True), exists)
    assert owned.tolist() == [*(loop_match(anchors, boxes) for boxes in images), [-1] * len(anchors)]


@pytest.mark.parametrize("numbers", [(1,), (0,), (7, 0, 40, 1), (0, 0)])
def test_a_batch_equals_its_images_one_by_one_to_the_bit(numbers):
    torch.manual_seed(1)
    tied = torch.tensor([[8.0, 8, 40, 40], [8, 8, 40, 40], [20, 20, 21, 21], [20, 20, 22, 22]])
    boxes = [torch.cat([random_boxes(n).float(), tied[:n]]) for n in numbers]
    labels = [torch.randint(5, (len(image),)) for image in boxes]
    targets = assign(boxes, labels)
    for i, image in enumerate(zip(boxes, labels, strict=True)):
        expected = one_image(ANCHORS, *image) if len(image[0]) else (torch.full_like(targets.classes[i], -1), 0)
        assert torch.equal(targets.classes[i], expected[0])
        assert (targets.box_deltas[i] == expected[1]).all()
    assert targets.num_positives == (targets.classes >= 0).sum() >= sum(numbers) / 2


def test_a_tiny_box_still_owns_one_anchor():
    targets = assign([torch.tensor([[10.0, 10, 11, 11]])], [torch.tensor([4])])
    assert targets.num_positives == 1
    assert (targets.classes == 4).sum() == 1


def test_first_box_keeps_a_shared_best_anchor():
    box = torch.tensor([[20.0, 20, 22, 22]])
    targets = assign([torch.cat([box, box + 0.01])], [torch.tensor([1, 2])])
    assert targets.classes[targets.classes >= 0].tolist() == [1]


def test_deltas_against_their_definition():
    boxes = random_boxes(5).float()
    targets = assign([boxes], [torch.arange(5)])
    positive = targets.classes[0] >= 0
    assert positive.sum() >= 5
    for i in positive.nonzero().squeeze(1).tolist():
        x1, y1, x2, y2 = boxes[targets.classes[0, i]].tolist()
        a1, b1, a2, b2 = ANCHORS[i].tolist()
        shift = ((y1 + y2 - b1 - b2) / 2 / (b2 - b1), (x1 + x2 - a1 - a2) / 2 / (a2 - a1))
        size = (math.log((y2 - y1) / (b2 - b1)), math.log((x2 - x1) / (a2 - a1)))
        torch.testing.assert_close(targets.box_deltas[0, i], torch.tensor([*shift, *size]), rtol=1e-4, atol=1e-5)
    assert not targets.box_deltas[0, ~positive].any()


def test_images_without_boxes():
    empty = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    boxes, labels = torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([2])
    targets = assign([empty[0], boxes], [empty[1], labels])
    assert targets.classes.shape == (2, len(ANCHORS))
    assert targets.classes.dtype == torch.int64
    assert targets.box_deltas.shape == (2, len(ANCHORS), 4)
    assert (targets.classes[0] == -1).all()
    assert not targets.box_deltas[0].any()
    assert targets.num_positives.dtype == torch.float32
    assert targets.num_positives == (targets.classes[1] == 2).sum() > 0


def test_encoding_and_decoding_are_inverse():
    boxes = random_boxes(len(ANCHORS)).float()
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, ANCHORS), ANCHORS), boxes, rtol=1e-4, atol=1e-3)
