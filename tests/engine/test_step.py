"""The shared step: moves its own parameters only, cuts gradients; evaluation; the loop."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from engine.search import Bilevel, search
from engine.step import Compute, Meters, evaluate, move
from engine.train import Progress, run_epochs, train, warm_restarts
from tests.engine.toy import CPU, TASK, Batches, Toy, parts, step, task_losses, validate


def test_a_step_moves_the_optimisers_parameters_only():
    batch = next(iter(Batches(0)))
    for logits_move in (False, True):
        torch.manual_seed(0)
        own, other = parts(model := Toy())[:: -1 if logits_move else 1]
        before = [p.clone() for p in (*own, *other)]
        step(model, [batch], torch.optim.SGD(own, lr=0.1))
        moved = [not torch.equal(a, b) for a, b in zip(before, (*own, *other), strict=True)]
        assert all(moved[: len(own)])
        assert not any(moved[len(own) :])
        assert all(p.grad is None for p in other)


def test_a_step_is_plain_gradient_descent():
    torch.manual_seed(0)
    model, batch = Toy(), next(iter(Batches(0)))
    weights, _ = parts(model)
    gradients = torch.autograd.grad(task_losses(model, batch)["loss"], weights)
    expected = [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)]
    step(model, [batch], torch.optim.SGD(weights, lr=0.1))
    torch.testing.assert_close(weights, expected)


def test_gradients_are_cut_to_the_norm():
    model, batch = Toy(), next(iter(Batches(0)))
    weights, _ = parts(model)
    before = [w.detach().clone() for w in weights]
    compute = Compute(torch.device("cpu"), clip_grad=1e-3)
    step(model, [batch], torch.optim.SGD(weights, lr=1.0), compute)
    moved = torch.sqrt(sum((a - b).square().sum() for a, b in zip(before, weights, strict=True)))
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


def test_move_reaches_tensors_in_lists_and_dicts():
    batch = {"a": torch.ones(1), "b": [torch.ones(1), "name"], "c": {"d": torch.ones(1)}, "e": 3}
    moved = move(batch, torch.device("meta"))
    assert {t.device.type for t in (moved["a"], moved["b"][0], moved["c"]["d"])} == {"meta"}
    assert (moved["b"][1], moved["e"]) == ("name", 3)


def test_meters_are_means():
    meters = Meters()
    for values in ([1.0, 2.0], [6.0]):
        meters.add([{"loss": torch.tensor(value)} for value in values], [{"image_ids": [0, 1]}] * len(values))
    assert meters.means("train") == {"train_loss": 3.0}
    assert meters.samples == 6


def test_evaluation_is_in_eval_mode_without_gradients():
    seen = []

    class Evaluator:
        def add(self, batch, predictions):
            seen.append(predictions.requires_grad)

        def compute(self):
            return {"score": float(len(seen))}

    model = Toy().train()
    before = copy.deepcopy(model.state_dict())
    assert evaluate(model, Batches(0), TASK, Evaluator(), CPU, "") == {"score": 3.0}
    assert not model.training
    assert seen == [False] * 3
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_the_best_epoch_is_the_first_of_equals():
    scores, best, progress = iter([None, 0.2, 0.5, 0.5, 0.1]), [], Progress()
    run_epochs(
        progress,
        5,
        lambda _: {},
        lambda: {"score": next(scores)},
        "score",
        lambda row, b: best.append((row["epoch"], b)),
    )
    assert best == [(0, True), (1, True), (2, True), (3, False), (4, False)]
    assert (progress.best_epoch, progress.best, progress.epochs_done) == (2, 0.5, 5)


def make_training(alternate: str | None):
    """Build everything of a small training (None) or search, from the seed."""
    torch.manual_seed(0)
    model = Toy()
    weights, logits = (torch.optim.Adam(p, lr=0.05) for p in parts(model))
    schedule = warm_restarts(weights, 3, Ti=1, Tm=2, eta_min=1e-4)
    progress, rows = Progress(), []

    def go(epochs: int) -> None:
        def on_epoch(row, _):
            rows.append(row)

        if alternate is None:
            train(model, TASK, weights, schedule, Batches(1), validate, epochs, CPU, progress, on_epoch)
        else:
            sides = Bilevel(model, TASK, weights, logits, schedule, Batches(1), Batches(2), alternate, False, CPU)
            search(sides, validate, dict, epochs, progress, on_epoch)

    return SimpleNamespace(model=model, owners=(model, weights, logits, schedule), progress=progress, rows=rows, go=go)


@pytest.mark.parametrize("alternate", [None, "epoch", "step"])
def test_two_and_two_epochs_equal_four(alternate, tmp_path):
    whole = make_training(alternate)
    whole.go(4)
    first = make_training(alternate)
    first.go(2)
    torch.save([o.state_dict() for o in first.owners], tmp_path / "state.pt")
    second = make_training(alternate)
    for owner, state in zip(second.owners, torch.load(tmp_path / "state.pt", weights_only=True), strict=True):
        owner.load_state_dict(state)
    second.progress.epochs_done = first.progress.epochs_done
    second.go(4)
    assert [r["epoch"] for r in first.rows + second.rows] == [0, 1, 2, 3]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert [r["train_loss"] for r in whole.rows] == [r["train_loss"] for r in first.rows + second.rows]


def test_alternations_differ_and_both_move_the_logits():
    ends = []
    for alternate in ("epoch", "step"):
        run = make_training(alternate)
        run.go(2)
        assert all("arch_loss" in row and "train_loss" in row for row in run.rows)
        ends.append(run.model.alpha_mix.detach())
    assert not torch.equal(*ends)
    assert all((end - torch.tensor([0.1, -0.1])).abs().max() > 1e-3 for end in ends)


def test_warm_restarts_follow_the_published_schedule():
    """Cosine per iteration from eta_max to eta_min over Ti epochs, then over Ti * Tm."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-3)
    schedule, rates = warm_restarts(optimizer, 4, Ti=5, Tm=2, eta_min=1e-6), []
    for _ in range(4 * 15 + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == rates[20] == rates[60] == 3e-3
    assert rates[10] == pytest.approx((3e-3 + 1e-6) / 2)
    assert rates[40] == pytest.approx((3e-3 + 1e-6) / 2)
    assert rates[19] < 1e-4
    assert min(rates) > 1e-6
