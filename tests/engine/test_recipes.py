"""Recipes against torch's own optimisers and schedules, step by step; groups of biases and streams."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
)

from commands.options import RECIPE_NAMES
from engine.recipes import RECIPES, Recipe, make_optimizer, make_schedule

STEPS, EPOCHS = 4, 6
TOTAL = STEPS * EPOCHS


class Net(nn.Module):
    """A stream, a layer with norm and bias, and a logit."""

    def __init__(self):
        super().__init__()
        self.streams = nn.Linear(2, 2)
        self.layer, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)
        self.alpha_mix = nn.Parameter(torch.zeros(2))


def rates_of(schedule, optimizer, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def ours(recipe: Recipe, steps: int = TOTAL, repeat: bool = False) -> list[float]:
    optimizer = make_optimizer(recipe, Net())
    schedule = make_schedule(recipe, optimizer, steps=STEPS, epochs=EPOCHS, repeat=repeat)
    return rates_of(schedule, optimizer, steps)


def theirs(make_schedule, lr: float, steps: int = TOTAL) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    return rates_of(make_schedule(optimizer), optimizer, steps)


def test_options_name_the_recipes_of_search_and_training():
    assert {*RECIPE_NAMES, "adamw_onecycle"} == set(RECIPES)


def test_adam_restarts_follow_the_published_schedule():
    """Cosine per iteration from eta_max to eta_min over Ti epochs, then over Ti * Tm."""
    recipe = Recipe("adam_restarts", lr=3e-3, weight_decay=1e-4, lr_min=1e-6)
    rates = ours(recipe, 4 * 15 + 1)
    assert rates == theirs(lambda o: CosineAnnealingWarmRestarts(o, 20, 2, 1e-6), 3e-3, 4 * 15 + 1)
    assert rates[0] == rates[20] == rates[60] == 3e-3
    assert rates[10] == pytest.approx((3e-3 + 1e-6) / 2)
    assert rates[40] == pytest.approx((3e-3 + 1e-6) / 2)
    assert rates[19] < 1e-4
    assert min(rates) > 1e-6


def test_each_of_several_networks_has_a_cosine_of_its_own():
    rates = ours(Recipe("adam_restarts", lr=1e-2, weight_decay=0.0), 2 * TOTAL, repeat=True)
    assert rates[:TOTAL] == rates[TOTAL:]
    assert rates[:TOTAL] == theirs(lambda o: CosineAnnealingWarmRestarts(o, TOTAL, 1, 0.0), 1e-2)


def test_one_cycle_is_torchs():
    recipe = Recipe("adamw_onecycle", lr=1e-2, weight_decay=1e-4, warmup_share=0.25)
    assert ours(recipe) == theirs(lambda o: OneCycleLR(o, 1e-2, TOTAL, pct_start=0.25), 1e-2)


@pytest.mark.parametrize("warmup", ["linear", "constant"])
def test_steps_with_warmup_are_torchs(warmup):
    recipe = Recipe(
        "sgd_steps", lr=0.04, weight_decay=1e-4, marks=(2.5, 4), warmup_steps=5, warmup=warmup
    )  # epochs of 4 steps: 10 and 16
    rising = {"linear": LinearLR, "constant": ConstantLR}[warmup]

    def expected(optimizer):
        return ChainedScheduler([rising(optimizer, 1 / 3, total_iters=5), MultiStepLR(optimizer, [10, 16], 0.1)])

    rates = ours(recipe)
    assert rates == pytest.approx(theirs(expected, 0.04), rel=1e-12)
    assert rates[0] == pytest.approx(0.04 / 3)
    assert rates[-1] == pytest.approx(4e-4)


def test_sgd_cosine_is_torchs():
    recipe = Recipe("sgd_cosine", lr=0.02, weight_decay=1e-4, lr_min=1e-4)
    assert ours(recipe) == pytest.approx(theirs(lambda o: CosineAnnealingLR(o, TOTAL, 1e-4), 0.02), rel=1e-9)


@pytest.mark.parametrize("name", ["sgd_steps", "sgd_cosine"])
def test_sgd_recipes_start_again_for_the_next_network(name):
    recipe = Recipe(name, lr=0.02, weight_decay=0.0, marks=(2,), warmup_steps=3)
    rates = ours(recipe, 2 * TOTAL, repeat=True)
    assert rates[:TOTAL] == rates[TOTAL:] == ours(recipe)


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_schedule_goes_on_from_its_state(name):
    recipe = Recipe(name, lr=0.02, weight_decay=0.0, marks=(2,), warmup_steps=3)
    whole = ours(recipe)
    optimizer = make_optimizer(recipe, Net())
    schedule = make_schedule(recipe, optimizer, steps=STEPS, epochs=EPOCHS)
    first = rates_of(schedule, optimizer, 9)
    states = optimizer.state_dict(), schedule.state_dict()
    optimizer = make_optimizer(recipe, Net())
    schedule = make_schedule(recipe, optimizer, steps=STEPS, epochs=EPOCHS)
    optimizer.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    assert first + rates_of(schedule, optimizer, TOTAL - 9) == whole


def test_groups_leave_out_logits_and_give_streams_a_rate():
    model = Net()
    recipe = Recipe("adam_restarts", lr=0.1, weight_decay=0.01, stream_lr=0.001)
    plain, streams = make_optimizer(recipe, model).param_groups
    assert (plain["lr"], streams["lr"], streams["weight_decay"]) == (0.1, 0.001, 0.01)
    assert {id(p) for p in streams["params"]} == {id(p) for p in model.streams.parameters()}
    assert model.alpha_mix.data_ptr() not in {p.data_ptr() for p in plain["params"]}
    assert len(plain["params"]) == 4


def test_biases_learn_twice_as_fast_and_do_not_decay():
    model = Net()
    recipe = Recipe("sgd_steps", lr=0.1, weight_decay=0.01, biases_apart=True, stream_lr=0.001)
    groups = make_optimizer(recipe, model).param_groups
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.1, 0.01, 2),
        (0.2, 0.0, 2),
        (0.001, 0.01, 1),
        (0.002, 0.0, 1),
    ]
    biases = {id(p) for name, p in model.named_parameters() if name.endswith("bias")}
    assert {id(p) for g in groups[1::2] for p in g["params"]} == biases
    model.streams.requires_grad_(False)
    assert len(make_optimizer(recipe, model).param_groups) == 2
