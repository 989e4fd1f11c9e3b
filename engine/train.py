"""The epoch loop that every phase runs in, and training of weights: pretraining, the head phase, the found network."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import ModuleType

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from engine.guard import Guard
from engine.step import Compute, optimisation_step, train_epoch

Row = dict[str, float | int | str | None]


@dataclass
class Progress:
    """How far a run is: finished epochs, and the best score on `val` so far with its epoch.

    A score is None where `val` holds nothing to be found; it ranks below every number, so the first epoch stays.
    """

    epochs_done: int = 0
    best: float | None = None
    best_epoch: int = -1

    def update(self, epoch: int, score: float | None) -> bool:
        """Count a finished epoch; return whether it is the best so far (the earlier one on a tie)."""
        self.epochs_done = epoch + 1
        if self.best_epoch >= 0 and (score is None or (self.best is not None and score <= self.best)):
            return False
        self.best, self.best_epoch = score, epoch
        return True

    def in_words(self, metric: str) -> str:
        score = "none: no objects in val" if self.best is None else f"{self.best:.4f}"
        return f"best epoch {self.best_epoch}, {metric}_val {score}"

    def to_dict(self) -> dict:
        return asdict(self)


def run_epochs(
    progress: Progress,
    epochs: int,
    one_epoch: Callable[[int], Row],
    validate: Callable[[], dict[str, float | None]],
    metric: str,
    on_epoch: Callable[[Row, bool], None],
) -> None:
    """Run the epochs that are left: learn, validate, keep the best by `metric`, report.

    Args:
        one_epoch: learns for one epoch and returns what it logs.
        validate: returns metrics of the `val` part.
        on_epoch: gets the epoch's row and whether it is the best so far; writes checkpoints and logs.
    """
    for epoch in range(progress.epochs_done, epochs):
        started = time.perf_counter()
        row: Row = {"epoch": epoch} | one_epoch(epoch)
        learned = time.perf_counter()
        metrics = validate()
        row |= {f"{name}_val": value for name, value in metrics.items()}
        row |= {"train_seconds": learned - started, "val_seconds": time.perf_counter() - learned}
        row["memory_mb"] = peak_memory_mb()
        on_epoch(row, progress.update(epoch, metrics[metric]))


def train(
    model: nn.Module,
    task: ModuleType,
    optimizer: Optimizer,
    schedule: LRScheduler,
    loader,
    validate: Callable[[], dict[str, float | None]],
    epochs: int,
    compute: Compute,
    progress: Progress,
    on_epoch: Callable[[Row, bool], None],
) -> None:
    """Train the optimiser's parameters on the loader; the schedule moves once per step."""

    def step(batches: list[dict], guard: Guard) -> list[dict]:
        losses = optimisation_step(model, batches, task, optimizer, compute, guard)
        schedule.step()
        return losses

    def one_epoch(epoch: int) -> Row:
        loader.sampler.set_epoch(epoch)
        started = time.perf_counter()
        row = {"lr": schedule.get_last_lr()[0]}
        meters = train_epoch(model, loader, step, compute, f"epoch {epoch} train")
        seconds = time.perf_counter() - started
        return row | meters.means("train") | {"pairs_per_s": meters.samples / seconds}

    run_epochs(progress, epochs, one_epoch, validate, task.METRIC, on_epoch)


def warm_restarts(optimizer: Optimizer, steps_per_epoch: int, Ti: int, Tm: int, eta_min: float) -> LRScheduler:
    """Return cosine annealing with warm restarts per step (SGDR, 1608.03983): first cycle Ti epochs, then times Tm."""
    return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, Ti * steps_per_epoch, Tm, eta_min)


def peak_memory_mb() -> float:
    """Return the peak memory so far: of the GPU where one is used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
