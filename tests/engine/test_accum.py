"""Gradients averaged over several batches: one step of N batches is one step of a batch N times as large."""

from types import SimpleNamespace

import pytest
import torch

from datasets.detection.dataset import collate
from datasets.loader import BadFiles, LoaderOptions, SampleLoader
from engine.bilevel import Bilevel
from engine.compute import Compute
from engine.epochs import Training, run_epochs
from engine.recipes import Recipe, make_schedule
from engine.step import groups_of
from tests.datasets.test_loader import damaged, dataset  # noqa: F401  a fixture
from tests.engine.toy import Batches, Toy, parts, session_of, step, task_losses, validate

TWO = Compute(torch.device("cpu"), accum=2)


def halves(batch):
    return [{name: value[i : i + 2] for name, value in batch.items()} for i in (0, 2)]


@pytest.mark.parametrize("of_logits", [False, True])
def test_two_batches_of_two_step_like_one_of_four(of_logits):
    (batch, *_), ends = Batches(0), []
    for batches in ([], [batch], halves(batch)):
        torch.manual_seed(0)
        model = Toy(norm=False)
        own = parts(model)[of_logits]
        if batches:
            step(model, batches, torch.optim.SGD(own, lr=0.5))
        ends.append([p.detach() for p in own])
    start, one, two = ends
    assert not any(torch.equal(a, b) for a, b in zip(start, one, strict=True))
    torch.testing.assert_close(two, one)


def by_hand(groups, lr):
    """Plain gradient descent, one step per group of batches."""
    torch.manual_seed(0)
    model = Toy(norm=False)
    weights, _ = parts(model)
    for group in groups:
        each = [torch.autograd.grad(task_losses(model, batch)["loss"], weights) for batch in group]
        with torch.no_grad():
            for w, *gradients in zip(weights, *each, strict=True):
                w -= lr * torch.stack(gradients).mean(0)
    return weights


def test_an_epochs_last_step_averages_what_it_has_and_the_schedule_counts_steps():
    torch.manual_seed(0)
    model, rows = Toy(norm=False), []
    optimizer = torch.optim.SGD(parts(model)[0], lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    training = Training(session_of(model, compute=TWO), optimizer, schedule, Batches(1))
    run_epochs(training, validate, 2, lambda row, _: rows.append(row))
    epochs = [Batches(1), Batches(1)]
    epochs[1].set_epoch(1)
    torch.testing.assert_close(parts(model)[0], by_hand([g for e in epochs for g in groups_of(e, 2)], 0.1))
    assert schedule.last_epoch == 4 == 2 * TWO.num_steps(Batches(1))
    assert [TWO.num_steps([None] * n) for n in (1, 2, 3)] == [1, 1, 2]


def test_logged_losses_are_means_over_batches():
    torch.manual_seed(0)
    model, rows = Toy(norm=False), []
    expected = sum(task_losses(model, batch)["loss"].item() for batch in Batches(1)) / 3
    optimizer = torch.optim.SGD(parts(model)[0], lr=0.0)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    training = Training(session_of(model, compute=TWO), optimizer, schedule, Batches(1))
    run_epochs(training, validate, 1, lambda row, _: rows.append(row))
    assert rows[0]["train_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("alternate", "order"), [("epoch", "ww w aa a"), ("step", "aa ww aa w")])
def test_weights_and_logits_take_groups_in_turn(alternate, order):
    torch.manual_seed(0)
    model, seen, rows = Toy(), [], []
    weights, logits = (torch.optim.Adam(p, lr=0.05, fused=True) for p in parts(model))
    for optimizer in (weights, logits):
        optimizer.register_step_post_hook(lambda *_: seen.append(" "))

    class Marked(Batches):
        def __iter__(self):
            return (batch | {"side": "wa"[self.seed - 1]} for batch in super().__iter__())

    def losses(model, batch, ranks):
        seen.append(batch["side"])
        return task_losses(model, batch)

    task = SimpleNamespace(losses=losses, metric="score")
    recipe = Recipe("adam_restarts", lr=0.05, weight_decay=0.0, cycle_epochs=1, cycle_factor=1)
    schedule = make_schedule(recipe, weights, steps=TWO.num_steps(Marked(1)), epochs=1)
    session = session_of(model, task, TWO)
    sides = Bilevel(session, weights, schedule, Marked(1), logits, Marked(2), alternate, False, epochs=1)
    run_epochs(sides, validate, 1, lambda row, _: rows.append(row))
    assert "".join(seen).split() == order.split()
    assert schedule.get_last_lr() == [0.05], "two steps are one epoch, and one cycle"
    assert {"train_loss", "arch_loss"} <= rows[0].keys()


def test_a_batch_that_is_left_out_leaves_no_gap_in_a_group(dataset):  # noqa: F811
    bad = BadFiles(2)
    bad.log = lambda line: None
    options = LoaderOptions(2, seed=1)
    loader = SampleLoader(damaged(dataset, 2, 7), collate, options, True, bad)  # a batch of one is left out
    assert [len(group) for group in groups_of(loader, 2)] == [2, 2]
    assert len(loader) == 6
