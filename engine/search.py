"""Bilevel search: weights on the `train` part, architecture logits on the `arch` part (DARTS, 1806.09055, algorithm 1).

Published NAS-DSF schedule: one epoch of weights, then one of logits (`alternate="epoch"`); per-step alternation is
`alternate="step"`. The genotype that counts is that of the epoch whose supernet has the best AP on `val`.
"""

import time
from collections.abc import Callable
from itertools import cycle
from types import ModuleType

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from engine.step import Compute, Meters, move, optimisation_step, train_epoch
from engine.train import Progress, Row, run_epochs
from models.search.architect import second_order_backward


def search(
    model: nn.Module,
    task: ModuleType,
    weight_optimizer: Optimizer,
    arch_optimizer: Optimizer,
    schedule: LRScheduler,
    train_loader,
    arch_loader,
    validate: Callable[[], dict[str, float | None]],
    describe: Callable[[], Row],
    epochs: int,
    alternate: str,
    second_order: bool,
    compute: Compute,
    progress: Progress,
    on_epoch: Callable[[Row, bool], None],
) -> None:
    """Search for `epochs` epochs.

    Args:
        weight_optimizer, arch_optimizer: own disjoint sets of parameters; a step moves only its own.
        schedule: learning rate of the weights, moved once per weight step.
        describe: what the logits say after an epoch (entropy, arg-max, operation counts).
        alternate: "epoch" or "step".
        second_order: logits by DARTS' second-order gradient, each with the latest or next batch of `train`.
    """
    weights, logits = (_parameters(o) for o in (weight_optimizer, arch_optimizer))

    def weight_step(batch: dict) -> dict:
        losses = optimisation_step(model, batch, task, weight_optimizer, compute)
        schedule.step()
        return losses

    def arch_step(batch: dict, train_batch: dict | None) -> dict:
        def losses_of(one: dict):
            with compute.autocast():
                return task.losses(model, one)

        def backward() -> dict:
            sides = (lambda: losses_of(train_batch)), (lambda: losses_of(batch))
            return second_order_backward(model, *sides, weights, logits, schedule.get_last_lr()[0])

        return optimisation_step(model, batch, task, arch_optimizer, compute, backward if second_order else None)

    def epoch_by_epoch(epoch: int) -> tuple[Meters, Meters]:
        trained = train_epoch(model, train_loader, weight_step, compute, f"epoch {epoch} weights")
        beside = cycle_batches(train_loader, compute) if second_order else cycle([None])

        def step(batch: dict) -> dict:
            return arch_step(batch, next(beside))

        return trained, train_epoch(model, arch_loader, step, compute, f"epoch {epoch} logits")

    def step_by_step(epoch: int) -> tuple[Meters, Meters]:
        arch_meters, arch_batches = Meters(), cycle_batches(arch_loader, compute)

        def both(batch: dict) -> dict:
            arch_batch = next(arch_batches)
            arch_meters.add(arch_step(arch_batch, batch), arch_batch)
            return weight_step(batch)

        return train_epoch(model, train_loader, both, compute, f"epoch {epoch} search"), arch_meters

    def one_epoch(epoch: int) -> Row:
        for loader in (train_loader, arch_loader):
            loader.sampler.set_epoch(epoch)
        started, rates = time.perf_counter(), {"lr": schedule.get_last_lr()[0]}
        rates["arch_lr"] = arch_optimizer.param_groups[0]["lr"]
        trained, arched = (epoch_by_epoch if alternate == "epoch" else step_by_step)(epoch)
        speed = {"pairs_per_s": (trained.samples + arched.samples) / (time.perf_counter() - started)}
        return rates | trained.means("train") | arched.means("arch") | speed | describe()

    run_epochs(progress, epochs, one_epoch, validate, task.METRIC, on_epoch)


def cycle_batches(loader, compute: Compute):
    """Yield the loader's batches on the device, from the start again when they run out."""
    while True:
        for batch in loader:
            yield move(batch, compute.device)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
