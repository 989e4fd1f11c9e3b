"""Steps with numbers that are not finite: skipped, named, counted; nothing moves by them, at once or looked at late."""

import copy
from contextlib import nullcontext

import pytest
import torch

from engine.compute import Compute
from engine.nonfinite import Guard
from engine.step import Session, optimisation_step, run_pass
from models.search.parameters import arch_parameters, weight_parameters
from tasks.detection.flira import FLIRA as detection
from tests.engine.toy import CPU, TASK, Batches, Toy, parts, session_of
from tests.models.detection import test_detector as fused
from utils.errors import UserError


def make_run(synchronous=True, max_bad_steps=0):
    """A session and the fused optimisers of its weights and its logits, which have taken one good step each."""
    torch.manual_seed(0)
    model, said = Toy(), []
    guard = Guard(CPU.device, max_bad_steps, said.append)
    guard.synchronous = synchronous
    session = Session(model, TASK, CPU, guard)
    optimizers = [torch.optim.Adam(p, lr=0.05, fused=True) for p in parts(model)]
    for optimizer, batch in zip(optimizers, Batches(0)):
        optimisation_step(session_of(model), [batch], optimizer)
    return session, optimizers, said


def snapshot(session, optimizers):
    """Parameters and running statistics, and what the optimisers know."""
    return copy.deepcopy(session.model.state_dict()), copy.deepcopy([o.state_dict() for o in optimizers])


def check_same(one, other):
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    for a, b in zip(one[1], other[1], strict=True):
        for key in a["state"]:
            assert all(torch.equal(a["state"][key][name], b["state"][key][name]) for name in a["state"][key])


def spoilt(batch, value, key="y"):
    return batch | {key: torch.full_like(batch[key], value)}


def go(session, optimizers, groups):
    """Every optimiser takes a step on every group."""
    for batches in groups:
        for optimizer in optimizers:
            optimisation_step(session, batches, optimizer)
    session.guard.check_pending()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("synchronous", [True, False])
def test_the_first_bad_step_ends_a_run_that_may_skip_none(value, synchronous):
    """Of two bad groups of two batches the first is named; good ones behind it do not move anything either."""
    session, optimizers, said = make_run(synchronous)
    group = list(Batches(1, num=6))
    groups = [[group[0], spoilt(group[1], value)], group[2:4], [spoilt(one, value) for one in group[4:]]]
    before = snapshot(session, optimizers)
    expected = r"loss (nan|inf), gradient norm.*pairs image0, .*image7; --max_bad_steps N skips .*; a lower learning"
    with pytest.raises(UserError, match=expected):
        go(session, optimizers, groups)
    check_same(before, snapshot(session, optimizers))
    assert not said


@pytest.mark.parametrize("synchronous", [True, False])
@pytest.mark.parametrize("key", ["x", "y"])
def test_skipped_steps_leave_no_trace(synchronous, key):
    """With bad images the running statistics are hit before any loss is known."""
    groups = [[batch] for batch in Batches(1, num=6)]
    whole, optimizers, _ = make_run(synchronous, 4)
    go(whole, optimizers, [groups[i] for i in (0, 2, 3, 5)])
    expected = snapshot(whole, optimizers)
    session, optimizers, said = make_run(synchronous, 4)
    bad = [[spoilt(g[0], float("nan"), key)] if i in (1, 4) else g for i, g in enumerate(groups)]
    go(session, optimizers, bad)
    check_same(expected, snapshot(session, optimizers))
    assert [line.partition(":")[0] for line in said] == [f"step skipped, {n} of at most 4" for n in (1, 2, 3, 4)]
    assert "pairs image4, image5, image6, image7" in said[0]
    assert session.guard.seen == 4
    meters, ours = session.progress.meters("train"), whole.progress.meters("train")
    assert meters.means("train") == ours.means("train"), "means are of the good ones"
    with pytest.raises(UserError, match="pairs image4, .*; --max_bad_steps 4 were skipped before"):
        go(session, optimizers, [bad[1]])


@pytest.mark.parametrize("synchronous", [True, False])
def test_the_count_goes_on_in_a_run_that_was_stopped(synchronous):
    (batch, *_), (session, optimizers, _) = Batches(1), make_run(synchronous, 3)
    go(session, optimizers, [[spoilt(batch, float("nan"))]])
    state = session.guard.state_dict()
    session, optimizers, _ = make_run(synchronous, 3)
    session.guard.load_state_dict(state)
    before = snapshot(session, optimizers)
    with pytest.raises(UserError, match="--max_bad_steps 3"):
        go(session, optimizers, [[spoilt(batch, float("nan"))]])
    check_same(before, snapshot(session, optimizers))


def test_a_bad_gradient_of_a_good_loss_is_seen():
    session, optimizers, _ = make_run()
    before, (batch, *_) = snapshot(session, optimizers), Batches(1)

    def backward():
        for p in parts(session.model)[0]:
            p.grad = torch.full_like(p, float("inf"))
        return {"loss": torch.tensor(1.0)}

    with pytest.raises(UserError, match="loss 1, gradient norm inf"):
        optimisation_step(session, [batch], optimizers[0], backward=backward)
    check_same(before, snapshot(session, optimizers))


def test_a_late_look_changes_no_good_step():
    ends = []
    for synchronous in (True, False):
        session, optimizers, _ = make_run(synchronous)
        go(session, optimizers, [[batch] for batch in Batches(1, num=5)])
        ends.append(snapshot(session, optimizers))
    check_same(*ends)


def test_optimisers_that_cannot_skip_are_refused():
    session, _, _ = make_run(synchronous=False)
    plain = torch.optim.Adam(parts(session.model)[0], lr=0.05, fused=False)
    with pytest.raises(AssertionError):
        optimisation_step(session, [next(iter(Batches(1)))], plain)


def test_only_a_gpu_is_looked_at_late():
    assert Guard(torch.device("cpu")).synchronous
    if torch.cuda.is_available():
        assert not Guard(torch.device("cuda")).synchronous


def test_a_step_asks_the_device_for_no_value(monkeypatch):
    """On "meta" tensors have no values, so whoever asks for one is told; forward, targets, losses, norm, late guard."""
    model, meta = fused.detector("search").train().to("meta"), torch.device("meta")
    data = fused.batch()
    optimizer = torch.optim.SGD([*weight_parameters(model), *arch_parameters(model)], lr=0.1)
    monkeypatch.setattr(optimizer, "step", lambda: None)  # no fused kernel there
    monkeypatch.setattr(Compute, "autocast", nullcontext)  # nor this
    session = Session(model, detection, Compute(meta), Guard(meta))
    session.guard.synchronous = False
    optimisation_step(session, [data, data], optimizer)
    assert session.progress.meters("train").sums["loss"].device == session.guard.bad.device == meta
    with pytest.raises(RuntimeError, match="meta"):
        session.guard.check_pending()


@pytest.mark.parametrize(("bad", "taken"), [(0, 1), (13, 21), (20, 21), (24, 25)])
def test_the_loop_looks_every_ten_steps_and_at_its_end(bad, taken):
    session, (optimizer, _), _ = make_run(synchronous=False)
    batches = [spoilt(b, float("nan")) if i == bad else b for i, b in enumerate(Batches(1, num=25))]
    steps = []

    def take_step(group):
        steps.append(group)
        optimisation_step(session, group, optimizer)

    with pytest.raises(UserError, match=f"pairs image{4 * bad}, "):
        run_pass(session, batches, take_step, "train")
    assert len(steps) == taken
    assert all(torch.isfinite(p).all() for p in session.model.parameters())
