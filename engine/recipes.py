"""How weights are trained: one table of optimisers with their schedules, used by pretraining, search and training.

A schedule changes the learning rate once per optimiser step. `adam_restarts` is published for NAS-DSF and BM-NAS,
`adamw_onecycle` trains our encoders and streams, `sgd_steps` and `sgd_cosine` are common for detectors and for video.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from models.search.parameters import weight_parameters

WARMUP_FACTOR = 1 / 3  # share of the learning rate at the first step of a warm-up
MARK_FACTOR = 0.1  # of the learning rate at each mark
BIAS_RATE = 2.0  # times the learning rate, for biases in a group of their own


@dataclass(frozen=True)
class Recipe:
    """An entry of RECIPES with its values; each recipe reads those that it needs.

    Args:
        name: of RECIPES.
        lr: highest learning rate.
        weight_decay: of all weights, or of all but biases where these are apart.
        lr_min: lowest learning rate of a cosine.
        cycle_epochs, cycle_factor: epochs of the first cosine cycle, and the factor from cycle to cycle.
        momentum: of SGD.
        marks: epochs, also fractions of one, after which the learning rate is a tenth.
        warmup_steps: optimiser steps at the start with a lower learning rate.
        warmup: "linear", from a third to the whole learning rate, or "constant", a third.
        warmup_share: share of all steps in which a one-cycle learning rate rises.
        biases_apart: biases learn at twice the rate and without weight decay.
        stream_lr: learning rate of the model's streams, where they are not frozen.
    """

    name: str
    lr: float
    weight_decay: float
    lr_min: float = 0.0
    cycle_epochs: int = 5
    cycle_factor: int = 2
    momentum: float = 0.9
    marks: tuple[float, ...] = ()
    warmup_steps: int = 0
    warmup: str = "linear"
    warmup_share: float = 0.1
    biases_apart: bool = False
    stream_lr: float = 0.0


def make_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """Return the optimiser of a model's weights, the logits of an architecture aside."""
    name, _ = RECIPES[recipe.name]
    values = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    values |= {"momentum": recipe.momentum} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(parameter_groups(recipe, model), **values)
    if name == "SGD" and recipe.momentum:  # torch's fused SGD fails where some buffers are there and some are not
        for parameter in weight_parameters(model):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def make_schedule(recipe: Recipe, optimizer: Optimizer, steps: int, epochs: int, repeat: bool = False) -> LRScheduler:
    """Return the schedule of an optimiser, which moves once per step.

    Args:
        steps: of the optimiser in an epoch.
        epochs: of the training, or of each of several.
        repeat: start again after these epochs, for the next of several networks.
    """
    _, build = RECIPES[recipe.name]
    return build(recipe, optimizer, steps, epochs, repeat)


def parameter_groups(recipe: Recipe, model: nn.Module) -> list[dict]:
    """Return the trainable weights by group: model, unfrozen streams, and the biases of each where they are apart."""
    groups: dict[tuple[bool, bool], dict] = {}
    streams = {id(p) for p in model.streams.parameters()} if recipe.stream_lr else set()
    biases = {id(p) for name, p in model.named_parameters() if name.rpartition(".")[2] == "bias"}
    for parameter in weight_parameters(model):
        in_streams, apart = id(parameter) in streams, recipe.biases_apart and id(parameter) in biases
        rate = recipe.stream_lr if in_streams else recipe.lr
        group = {"lr": BIAS_RATE * rate, "weight_decay": 0.0} if apart else {"lr": rate}
        groups.setdefault((in_streams, apart), group | {"params": []})["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _restarts(recipe: Recipe, optimizer: Optimizer, steps: int, epochs: int, repeat: bool) -> LRScheduler:
    """Cosine annealing with warm restarts (SGDR, 1608.03983); repeated, one cycle per network."""
    cycle, factor = (epochs, 1) if repeat else (recipe.cycle_epochs, recipe.cycle_factor)
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, cycle * steps, factor, recipe.lr_min)


def _one_cycle(recipe: Recipe, optimizer: Optimizer, steps: int, epochs: int, repeat: bool) -> LRScheduler:
    """One cycle of the learning rate, up and down (1708.07120)."""
    assert not repeat
    total = epochs * steps
    rising = recipe.warmup_share if recipe.warmup_share * total > 1 else 0.0  # OneCycleLR divides by zero at one step
    rates = [group["lr"] for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(optimizer, rates, total, pct_start=rising)


def _marks(recipe: Recipe, optimizer: Optimizer, steps: int, epochs: int, repeat: bool) -> LRScheduler:
    """A tenth of the learning rate after each mark, with a warm-up."""
    marks = [round(mark * steps) for mark in recipe.marks]

    def factor(step: int) -> float:
        return MARK_FACTOR ** sum(step >= mark for mark in marks)

    return _by_factor(recipe, optimizer, factor, period=epochs * steps if repeat else None)


def _cosine(recipe: Recipe, optimizer: Optimizer, steps: int, epochs: int, repeat: bool) -> LRScheduler:
    """Half a cosine from the highest to the lowest learning rate, with a warm-up."""
    total, lowest = epochs * steps, recipe.lr_min / recipe.lr if recipe.lr else 0.0

    def factor(step: int) -> float:
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * min(step / total, 1.0))) / 2

    return _by_factor(recipe, optimizer, factor, period=total if repeat else None)


def _by_factor(recipe: Recipe, optimizer: Optimizer, factor: Callable[[int], float], period: int | None) -> LRScheduler:
    def warmed(step: int) -> float:
        step = step if period is None else step % period
        if step >= recipe.warmup_steps:
            return factor(step)
        risen = step / recipe.warmup_steps if recipe.warmup == "linear" else 0.0
        return factor(step) * (WARMUP_FACTOR + (1 - WARMUP_FACTOR) * risen)

    return lr_scheduler.LambdaLR(optimizer, warmed)


Schedule = Callable[[Recipe, Optimizer, int, int, bool], LRScheduler]
RECIPES: dict[str, tuple[str, Schedule]] = {  # an optimiser of torch.optim, and a schedule
    "adam_restarts": ("Adam", _restarts),
    "adamw_onecycle": ("AdamW", _one_cycle),
    "sgd_steps": ("SGD", _marks),
    "sgd_cosine": ("SGD", _cosine),
}
