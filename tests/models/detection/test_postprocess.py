"""Detections against a plain loop, hand-made boxes, and the awkward cases."""

import pytest
import torch
from torchvision.ops import box_iou

from models.detection import postprocess
from models.detection.anchors import make_anchors
from models.detection.heads.anchor_targets import decode_boxes, encode_boxes
from models.detection.postprocess import best_pairs, detect, stable_topk

IMAGE_SIZE = (64, 96)
NUM_CLASSES = 3
ANCHORS = make_anchors(IMAGE_SIZE, 3, 4.0)


def run_detect(logits, deltas, scale=1.0, original_size=IMAGE_SIZE):
    sizes = torch.tensor([original_size] * len(logits))
    batch = {"image_size": IMAGE_SIZE, "scales": torch.full((len(logits),), scale), "original_sizes": sizes}
    return detect(logits, deltas, lambda values, places: decode_boxes(values, ANCHORS[places]), batch)


def loop_detect(logits, deltas, scale, original_size):
    """Greedy suppression over all (anchor, class) pairs, best first."""
    height, width = original_size
    boxes = decode_boxes(deltas, ANCHORS) / scale
    boxes = torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=1)
    pairs = sorted((-logits[a, k].item(), a, k) for a in range(len(ANCHORS)) for k in range(NUM_CLASSES))
    kept = []
    for negative_logit, anchor, label in pairs[:5000]:
        same = [boxes[a] for _, a, k in kept if k == label]
        if len(kept) < 100 and not (same and (box_iou(boxes[anchor][None], torch.stack(same)) > 0.5).any()):
            kept.append((negative_logit, anchor, label))
    scores = torch.tensor([-negative_logit for negative_logit, _, _ in kept]).sigmoid()
    return boxes[[a for _, a, _ in kept]], scores, torch.tensor([k for _, _, k in kept])


@pytest.mark.parametrize(("scale", "original_size"), [(1.0, IMAGE_SIZE), (0.4, (150, 240))])
def test_detections_equal_the_loop(scale, original_size):
    torch.manual_seed(0)
    logits, deltas = torch.randn(2, len(ANCHORS), NUM_CLASSES), torch.randn(2, len(ANCHORS), 4) * 0.2
    for image, found in enumerate(run_detect(logits, deltas, scale, original_size)):
        boxes, scores, labels = loop_detect(logits[image], deltas[image], scale, original_size)
        torch.testing.assert_close(found["boxes_xyxy"], boxes)
        torch.testing.assert_close(found["scores"], scores)
        assert torch.equal(found["labels"], labels)


def test_a_hand_made_box_comes_back_in_original_pixels():
    """One anchor says so with a high logit; the letterbox is undone."""
    box = torch.tensor([10.0, 12.0, 50.0, 30.0])
    logits, deltas = torch.full((1, len(ANCHORS), NUM_CLASSES), -9.0), torch.zeros(1, len(ANCHORS), 4)
    logits[0, 70, 2] = 4.0
    deltas[0, 70] = encode_boxes(box[None], ANCHORS[70:71])[0]
    (found,) = run_detect(logits, deltas, scale=0.5, original_size=(128, 90))
    torch.testing.assert_close(found["boxes_xyxy"][0], torch.tensor([20.0, 24.0, 90.0, 60.0]))  # 100 clipped to 90
    assert found["labels"][0] == 2
    assert found["scores"][0] == torch.tensor(4.0).sigmoid()
    assert found["scores"].shape == found["labels"].shape == (len(found["boxes_xyxy"]),)


def test_huge_deltas_stay_finite():
    deltas = torch.tensor([[0.0, 0.0, 1e4, 1e4], [1e30, -1e30, 500.0, -500.0]]).repeat(len(ANCHORS) // 2, 1)
    assert decode_boxes(deltas, ANCHORS).isfinite().all()
    (found,) = run_detect(torch.randn(1, len(ANCHORS), NUM_CLASSES), deltas[None])
    boxes = found["boxes_xyxy"]
    assert boxes.isfinite().all()
    assert boxes.min() >= 0
    assert (boxes <= torch.tensor([96.0, 64.0, 96.0, 64.0])).all()


def test_equal_scores_keep_the_order_of_anchors():
    """All logits equal, boxes small and apart: the first 100 (anchor, class) pairs, on every run."""
    deltas = torch.zeros(1, len(ANCHORS), 4)
    deltas[..., 2:] = -5.0
    deltas[0, :, 1] = torch.arange(len(ANCHORS)) % 9 * 0.05
    logits = torch.zeros(1, len(ANCHORS), NUM_CLASSES)
    (found,) = run_detect(logits, deltas)
    boxes, _, labels = loop_detect(logits[0], deltas[0], 1.0, IMAGE_SIZE)
    assert len(labels) == 100
    torch.testing.assert_close(found["boxes_xyxy"], boxes)
    assert torch.equal(found["labels"], labels)


def test_stable_topk_on_ties():
    torch.manual_seed(0)
    values = torch.randint(0, 5, (2000,)).float()
    expected = sorted(range(2000), key=lambda i: (-values[i].item(), i))
    for k in (1, 700, 2000, 5000):
        assert stable_topk(values, k).tolist() == expected[:k]


def test_best_pairs_on_ties():
    torch.manual_seed(0)
    logits = torch.randint(0, 9, (700, 4)).float()
    for k in (1, 256, 2000, 5000):
        assert torch.equal(best_pairs(logits, k), stable_topk(logits.flatten(), k))


@pytest.mark.parametrize(("growth", "most_tried"), [(-1.0, 256), (0.0, 1024), (1.0, 5000)])
def test_a_few_candidates_give_what_all_give(growth, most_tried, monkeypatch):
    """The larger the boxes, the more candidates it takes to find 100 that do not overlap; at last there are fewer."""
    torch.manual_seed(0)
    logits = (torch.randn(3, len(ANCHORS), NUM_CLASSES) * 8).round() / 8
    deltas = torch.randn(3, len(ANCHORS), 4) * 0.1 + torch.tensor([0.0, 0.0, growth, growth])
    tried = []
    monkeypatch.setattr(postprocess, "best_pairs", lambda logits, k: tried.append(k) or best_pairs(logits, k))
    few = run_detect(logits, deltas, 0.7, (80, 130))
    monkeypatch.setattr(postprocess, "NUM_CANDIDATES", (5000,))
    for one, other in zip(few, run_detect(logits, deltas, 0.7, (80, 130)), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert max(tried[:-3]) == most_tried
    assert (len(few[0]["scores"]) < 100) == (growth > 0)


def test_logits_that_are_no_numbers_give_no_detections():
    logits = torch.full((2, len(ANCHORS), NUM_CLASSES), float("nan"))
    assert [len(found["scores"]) for found in run_detect(logits, torch.zeros(2, len(ANCHORS), 4))] == [0, 0]


def test_batched_equals_single():
    logits, deltas = torch.randn(3, len(ANCHORS), NUM_CLASSES), torch.randn(3, len(ANCHORS), 4) * 0.3
    batch = run_detect(logits, deltas, 0.7, (80, 130))
    for i in range(3):
        (single,) = run_detect(logits[i : i + 1], deltas[i : i + 1], 0.7, (80, 130))
        assert all(torch.equal(batch[i][key], single[key]) for key in ("boxes_xyxy", "scores", "labels"))
