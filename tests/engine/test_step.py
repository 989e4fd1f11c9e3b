"""The shared step: moves its own parameters only, cuts gradients; evaluation; the loop."""

import copy
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch

from engine.bilevel import Bilevel
from engine.compute import Compute
from engine.epochs import Training, run_epochs
from engine.progress import Meters
from engine.recipes import Recipe, make_schedule
from engine.step import evaluate, move
from tests.engine.toy import Batches, Toy, parts, session_of, step, task_losses, validate


def test_a_step_moves_the_optimisers_parameters_only():
    batch = next(iter(Batches(0)))
    for logits_move in (False, True):
        torch.manual_seed(0)
        own, other = parts(model := Toy(norm=False))[:: -1 if logits_move else 1]  # a norm would cancel the bias
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
    for values in ([1.0, 2.0], [float("nan")], [6.0]):
        losses = [{"loss": torch.tensor(value)} for value in values]
        meters.add(losses, [{"image_ids": [0, 1]}] * len(values), torch.tensor(values[0] > 0))
    assert meters.means("train") == {"train_loss": 3.0}
    assert meters.samples == 8
    assert Meters().means("train") == {}


def test_evaluation_is_in_eval_mode_without_gradients():
    seen = []

    class Evaluator:
        def add(self, batch, predictions):
            seen.append(predictions.requires_grad)

        def compute(self):
            return {"score": float(len(seen))}

    model = Toy().train()
    before = copy.deepcopy(model.state_dict())
    assert evaluate(session_of(model), Batches(0), Evaluator(), "") == {"score": 3.0}
    assert not model.training
    assert seen == [False] * 3
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_the_best_epoch_is_the_first_of_equals():
    scores, best, session = iter([None, 0.2, 0.5, 0.5, 0.1]), [], session_of(Toy())
    learner = SimpleNamespace(session=session, start_epoch=lambda _: {}, train_epoch=dict)
    run_epochs(learner, lambda: {"score": next(scores)}, 5, lambda row, b: best.append((row["epoch"], b)))
    progress = session.progress
    assert best == [(0, True), (1, True), (2, True), (3, False), (4, False)]
    assert (progress.best_epoch, progress.best, progress.epochs_done) == (2, 0.5, 5)


class Killed(Exception):
    pass


def make_training(alternate: str | None, second_order: bool = False):
    """Build everything of a small training (None) or search, from the seed; `go` may be killed after so many steps."""
    torch.manual_seed(0)
    model = Toy()
    weights, logits = (torch.optim.Adam(p, lr=0.05, fused=True) for p in parts(model))
    recipe = Recipe("adam_restarts", lr=0.05, weight_decay=0.0, lr_min=1e-4, cycle_epochs=1)
    schedule = make_schedule(recipe, weights, steps=3, epochs=4)
    session, loaders, rows = session_of(model), [Batches(1), Batches(2, num=2)], []
    stateful = {"model": model, "weights": weights, "logits": logits, "schedule": schedule, "guard": session.guard}
    stateful |= {"progress": session.progress, "train": loaders[0], "arch": loaders[1]}

    def go(epochs: int, kill_at: int | None = None) -> None:
        def on_epoch(row, _):
            rows.append(row)

        def on_step_end():
            if session.progress.steps == kill_at:
                raise Killed

        session.on_step_end = on_step_end
        with suppress(Killed):
            learner = Training(session, weights, schedule, loaders[0])
            if alternate:
                sides = logits, loaders[1], alternate, second_order, epochs
                learner = Bilevel(session, weights, schedule, loaders[0], *sides)
            run_epochs(learner, validate, epochs, on_epoch)

    return SimpleNamespace(model=model, stateful=stateful, rows=rows, go=go, session=session)


@pytest.mark.parametrize(
    ("alternate", "second_order"), [(None, False), ("epoch", False), ("step", False), ("epoch", True), ("step", True)]
)
def test_killed_after_any_step_and_taken_up_equals_whole(alternate, second_order, tmp_path):
    """Also right behind a pass's last step, and behind an epoch's."""
    whole = make_training(alternate, second_order)
    whole.go(4)
    for kill_at in range(1, whole.session.progress.steps + 1):
        first = make_training(alternate, second_order)
        first.go(4, kill_at)
        torch.save({name: owner.state_dict() for name, owner in first.stateful.items()}, tmp_path / "state.pt")
        second = make_training(alternate, second_order)
        for name, state in torch.load(tmp_path / "state.pt", weights_only=True).items():
            second.stateful[name].load_state_dict(state)
        second.go(4)
        assert second.session.progress.steps == whole.session.progress.steps
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name]), (kill_at, name)
        assert [told(r) for r in first.rows + second.rows] == [told(r) for r in whole.rows]


def told(row):
    return {k: v for k, v in row.items() if not k.endswith(("_seconds", "_per_s", "_mb"))}


def test_alternations_differ_and_both_move_the_logits():
    ends = []
    for alternate in ("epoch", "step"):
        run = make_training(alternate)
        run.go(2)
        assert all("arch_loss" in row and "train_loss" in row for row in run.rows)
        ends.append(run.model.alpha_mix.detach())
    assert not torch.equal(*ends)
    assert all((end - torch.tensor([0.1, -0.1])).abs().max() > 1e-3 for end in ends)
