"""Bilevel search: weights on the `train` part, architecture logits on the `arch` part (DARTS, 1806.09055, algorithm 1).

Published NAS-DSF schedule: one epoch of weights, then one of logits (`alternate="epoch"`); per-step alternation is
`alternate="step"`. The genotype that counts is that of the epoch whose supernet has the best AP on `val`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from types import ModuleType

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from engine.guard import Guard
from engine.step import Compute, Meters, move, optimisation_step, train_epoch
from engine.train import Progress, Row, run_epochs
from models.search.architect import second_order_backward


@dataclass(frozen=True)
class Bilevel:
    """The two sides of a search.

    Args:
        weight_optimizer, arch_optimizer: own disjoint sets of parameters; a step moves only its own.
        schedule: learning rate of the weights, moved once per weight step.
        train_loader, arch_loader: the parts that weights and logits learn on.
        alternate: "epoch" or "step".
        second_order: logits by DARTS' second-order gradient, each step with a batch of `train`; not with `accum`.
    """

    model: nn.Module
    task: ModuleType
    weight_optimizer: Optimizer
    arch_optimizer: Optimizer
    schedule: LRScheduler
    train_loader: DataLoader
    arch_loader: DataLoader
    alternate: str
    second_order: bool
    compute: Compute

    def one_epoch(self, epoch: int) -> Row:
        """Learn for one epoch; returns losses, learning rates and speed."""
        for loader in (self.train_loader, self.arch_loader):
            loader.sampler.set_epoch(epoch)
        rates = {"lr": self.schedule.get_last_lr()[0], "arch_lr": self.arch_optimizer.param_groups[0]["lr"]}
        started = time.perf_counter()
        trained, arched = (self._epoch_by_epoch if self.alternate == "epoch" else self._step_by_step)(epoch)
        speed = {"pairs_per_s": (trained.samples + arched.samples) / (time.perf_counter() - started)}
        return rates | trained.means("train") | arched.means("arch") | speed

    def _epoch_by_epoch(self, epoch: int) -> tuple[Meters, Meters]:
        trained = train_epoch(self.model, self.train_loader, self._weight_step, self.compute, f"epoch {epoch} weights")
        beside = cycle_batches(self.train_loader) if self.second_order else cycle([None])

        def step(batches: list[dict], guard: Guard) -> list[dict[str, Tensor]]:
            return self._arch_step(batches, next(beside), guard)

        return trained, train_epoch(self.model, self.arch_loader, step, self.compute, f"epoch {epoch} logits")

    def _step_by_step(self, epoch: int) -> tuple[Meters, Meters]:
        arched, arch_batches = Meters(), cycle_batches(self.arch_loader)

        def both(batches: list[dict], guard: Guard) -> list[dict[str, Tensor]]:
            group = list(islice(arch_batches, self.compute.accum))
            arched.add(self._arch_step(group, batches[0], guard), group)
            return self._weight_step(batches, guard)

        return train_epoch(self.model, self.train_loader, both, self.compute, f"epoch {epoch} search"), arched

    def _weight_step(self, batches: list[dict], guard: Guard) -> list[dict[str, Tensor]]:
        losses = optimisation_step(self.model, batches, self.task, self.weight_optimizer, self.compute, guard)
        self.schedule.step()
        return losses

    def _arch_step(self, batches: list[dict], train_batch: dict | None, guard: Guard) -> list[dict[str, Tensor]]:
        def losses_of(one: dict) -> dict[str, Tensor]:
            with self.compute.autocast():
                return self.task.losses(self.model, one)

        def backward() -> dict[str, Tensor]:
            (arch_batch,) = batches
            trained, arched = (move(batch, self.compute.device) for batch in (train_batch, arch_batch))
            sides = (lambda: losses_of(trained)), (lambda: losses_of(arched))
            weights, logits = (_parameters(o) for o in (self.weight_optimizer, self.arch_optimizer))
            return second_order_backward(self.model, *sides, weights, logits, self.schedule.get_last_lr()[0])

        own = backward if self.second_order else None
        return optimisation_step(self.model, batches, self.task, self.arch_optimizer, self.compute, guard, own)


def search(
    sides: Bilevel,
    validate: Callable[[], dict[str, float | None]],
    describe: Callable[[], Row],
    epochs: int,
    progress: Progress,
    on_epoch: Callable[[Row, bool], None],
) -> None:
    """Search until `epochs` epochs are done.

    Args:
        describe: what the logits say after an epoch (entropy, arg-max, operation counts).
        validate, progress, on_epoch: as `run_epochs`.
    """

    def one_epoch(epoch: int) -> Row:
        return sides.one_epoch(epoch) | describe()

    run_epochs(progress, epochs, one_epoch, validate, sides.task.METRIC, on_epoch)


def cycle_batches(loader: DataLoader):
    """Yield the loader's batches, from the start again when they run out."""
    while True:
        yield from loader


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
