"""Non-finite numbers stop a run: at once, or at the next look with nothing moved since."""

import copy
from contextlib import nullcontext

import pytest
import torch

from engine import step as step_module
from engine.guard import Guard
from engine.step import Compute, optimisation_step, train_epoch
from engine.tasks import detection
from models.search.parameters import arch_parameters, weight_parameters
from tests.engine.toy import CPU, TASK, Batches, Toy, parts
from tests.models import test_fusion_detector as fused
from utils.errors import UserError


def make_run():
    """A model and the fused optimisers of its weights and its logits, which have taken one good step each."""
    torch.manual_seed(0)
    model = Toy()
    optimizers = [torch.optim.Adam(p, lr=0.05, fused=True) for p in parts(model)]
    for optimizer, batch in zip(optimizers, Batches(0)):
        optimisation_step(model, [batch], TASK, optimizer, CPU, Guard(CPU.device))
    return model, optimizers


def snapshot(model, optimizers):
    return copy.deepcopy([p.detach() for p in model.parameters()]), copy.deepcopy([o.state_dict() for o in optimizers])


def check_same(one, other):
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    for a, b in zip(one[1], other[1], strict=True):
        for key in a["state"]:
            assert all(torch.equal(a["state"][key][name], b["state"][key][name]) for name in a["state"][key])


def spoilt(batch, value):
    return batch | {"y": torch.full_like(batch["y"], value)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at_once", [True, False])
def test_nothing_moves_from_the_first_bad_step_on(value, at_once):
    """Of two bad groups of two batches the first is named; good ones in between, and the logits, do not move either."""
    model, optimizers = make_run()
    guard, group = Guard(CPU.device, at_once), list(Batches(1, num=6))
    groups = [[group[0], spoilt(group[1], value)], group[2:4], [spoilt(one, value) for one in group[4:]]]
    before = snapshot(model, optimizers)

    def go():
        for batches in groups:
            for optimizer in optimizers:
                optimisation_step(model, batches, TASK, optimizer, CPU, guard)
                assert not at_once, "the first one was let through"
        guard.look()

    with pytest.raises(UserError, match=r"loss (nan|inf), gradient norm.*images image0, .*image7; a lower learning"):
        go()
    check_same(before, snapshot(model, optimizers))


def test_a_bad_gradient_of_a_good_loss_is_seen():
    model, optimizers = make_run()
    before, (batch, *_) = snapshot(model, optimizers), Batches(1)

    def backward():
        for p in parts(model)[0]:
            p.grad = torch.full_like(p, float("inf"))
        return {"loss": torch.tensor(1.0)}

    with pytest.raises(UserError, match="loss 1, gradient norm inf"):
        optimisation_step(model, [batch], TASK, optimizers[0], CPU, Guard(CPU.device), backward)
    check_same(before, snapshot(model, optimizers))


def test_a_late_look_changes_no_good_step():
    ends = []
    for at_once in (True, False):
        model, optimizers = make_run()
        guard = Guard(CPU.device, at_once)
        for batch in Batches(1, num=5):
            for optimizer in optimizers:
                optimisation_step(model, [batch], TASK, optimizer, CPU, guard)
        guard.look()
        ends.append(snapshot(model, optimizers))
    check_same(*ends)


def test_optimisers_that_cannot_skip_are_refused():
    model, (batch, *_) = Toy(), Batches(1)
    plain = torch.optim.Adam(parts(model)[0], lr=0.05, fused=False)
    with pytest.raises(AssertionError):
        optimisation_step(model, [batch], TASK, plain, CPU, Guard(CPU.device, at_once=False))


def test_only_a_gpu_is_looked_at_late():
    assert Guard(torch.device("cpu")).at_once
    if torch.cuda.is_available():
        assert not Guard(torch.device("cuda")).at_once


@pytest.mark.parametrize("parameters", [weight_parameters, arch_parameters])
def test_a_step_asks_the_device_for_no_value(monkeypatch, parameters):
    """On "meta" tensors have no values, so whoever asks for one is told; forward, targets, losses, norm, late guard."""
    model, meta = fused.detector("search").train().to("meta"), torch.device("meta")
    data = fused.batch()
    optimizer = torch.optim.SGD(parameters(model), lr=0.1)
    monkeypatch.setattr(optimizer, "step", lambda: None)  # no fused kernel there
    monkeypatch.setattr(Compute, "autocast", nullcontext)  # nor this
    late = Guard(meta, at_once=False)
    losses = optimisation_step(model, [data, data], detection, optimizer, Compute(meta), late)
    assert losses[1]["loss"].device == late.stopped.device == meta
    with pytest.raises(RuntimeError, match="meta"):
        late.look()


@pytest.mark.parametrize(("bad", "taken"), [(0, 1), (13, 21), (20, 21), (24, 25)])
def test_the_loop_looks_every_ten_steps_and_at_its_end(monkeypatch, bad, taken):
    monkeypatch.setattr(step_module, "Guard", lambda device: Guard(device, at_once=False))
    model, (optimizer, _) = make_run()
    batches = [spoilt(b, float("nan")) if i == bad else b for i, b in enumerate(Batches(1, num=25))]
    steps = []

    def take_step(group, guard):
        steps.append(group)
        return optimisation_step(model, group, TASK, optimizer, CPU, guard)

    with pytest.raises(UserError, match=f"images image{4 * bad}, "):
        train_epoch(model, batches, take_step, CPU, "")
    assert len(steps) == taken
    assert all(torch.isfinite(p).all() for p in model.parameters())
