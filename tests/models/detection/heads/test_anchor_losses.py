"""Detection losses against plain loops; autocast types; batches without boxes."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from models.detection.heads.anchor_losses import detection_losses
from models.detection.heads.anchor_targets import Targets
from models.detection.heads.efficientdet import HeadOutput
from models.detection.heads.focal_loss import focal_loss
from models.detection.heads.head import flatten_levels

NUM_CLASSES = 3
SIZES = [(2, 3), (1, 2)]
NUM = 9 * sum(rows * columns for rows, columns in SIZES)


def random_output():
    logits = [torch.randn(2, 9 * NUM_CLASSES, *size, requires_grad=True) for size in SIZES]
    deltas = [(torch.randn(2, 36, *size) * 0.2).requires_grad_() for size in SIZES]
    return HeadOutput(logits, deltas)


def flat(output):
    return flatten_levels(output.class_logits, NUM_CLASSES), flatten_levels(output.box_deltas, 4)


def random_targets():
    classes = torch.randint(-1, NUM_CLASSES, (2, NUM))
    box_deltas = torch.randn(2, NUM, 4) * 0.2 * (classes >= 0).unsqueeze(-1)
    box_deltas[:, :, 1] = box_deltas[:, :, 1].clamp(min=0)  # some components exactly 0
    return Targets(classes, box_deltas, (classes >= 0).sum().float())


def loop_losses(output, targets):
    logits = flatten_levels(output.class_logits, NUM_CLASSES).double().tolist()
    deltas = flatten_levels(output.box_deltas, 4).double().tolist()
    positives, focal, huber = 0, 0.0, 0.0
    for image in range(2):
        for anchor in range(NUM):
            label = targets.classes[image, anchor].item()
            positives += label >= 0
            for k in range(NUM_CLASSES):
                probability = 1 / (1 + math.exp(-logits[image][anchor][k]))
                p, alpha = (probability, 0.25) if k == label else (1 - probability, 0.75)
                focal -= alpha * (1 - p) ** 1.5 * math.log(p)
            for prediction, target in zip(deltas[image][anchor], targets.box_deltas[image, anchor].tolist()):
                error = abs(prediction - target)
                if label >= 0 and target != 0:
                    huber += 0.5 * error**2 if error <= 0.1 else 0.1 * (error - 0.05)
    return focal / (positives + 1), huber / (4 * (positives + 1))


def test_losses_equal_the_loops():
    torch.manual_seed(0)
    output, targets = random_output(), random_targets()
    losses = detection_losses(*flat(output), targets)
    class_loss, box_loss = loop_losses(output, targets)
    assert losses["class_loss"].item() == pytest.approx(class_loss, rel=1e-5)
    assert losses["box_loss"].item() == pytest.approx(box_loss, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(class_loss + 50 * box_loss, rel=1e-5)


@pytest.mark.parametrize("gamma", [1.5, 2.0])
def test_focal_loss_equals_torchvisions_with_gradient(gamma):
    """Ours is made for speed; the library's is the right answer."""
    logits = (4 * torch.randn(2, NUM, NUM_CLASSES, dtype=torch.float64) - 3).requires_grad_()
    classes = random_targets().classes
    positive = (classes >= 0).unsqueeze(-1)
    one_hot = torch.zeros_like(logits).scatter_(-1, classes.clamp(min=0).unsqueeze(-1), positive.double())
    theirs = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=gamma, reduction="sum")
    ours = focal_loss(logits, classes, gamma)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(3 * loss, logits)[0] for loss in (ours, theirs))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_half_precision_is_summed_in_float32():
    output, targets = random_output(), random_targets()
    half = HeadOutput(*([level.detach().bfloat16() for level in part] for part in output))
    exact = HeadOutput(*([level.float() for level in part] for part in half))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detection_losses(*flat(half), targets)
    for name, value in detection_losses(*flat(exact), targets).items():
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], value)


def test_batch_without_boxes():
    output = random_output()
    targets = Targets(torch.full((2, NUM), -1), torch.zeros(2, NUM, 4), torch.tensor(0.0))
    losses = detection_losses(*flat(output), targets)
    assert losses["box_loss"] == 0
    assert losses["class_loss"] > 0
    losses["loss"].backward()
    assert all(level.grad.isfinite().all() for part in output for level in part)


def test_extreme_logits_stay_finite():
    output = HeadOutput([torch.full((2, 27, *s), -1e4) for s in SIZES], [torch.full((2, 36, *s), 1e4) for s in SIZES])
    output.class_logits[0][:, ::2] = 1e4
    logits = [level.requires_grad_() for level in output.class_logits]
    loss = detection_losses(*flat(output), random_targets())["loss"]
    gradients = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
