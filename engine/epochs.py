"""The epoch loop that every phase runs in, and training of weights: pretraining, the head phase, the found network."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.loader import SampleLoader
from engine.progress import Row
from engine.recipes import Recipe, make_optimizer, make_schedule
from engine.step import Session, optimisation_step, run_pass
from engine.task import Metrics
from utils.errors import UserError


@dataclass(frozen=True)
class Training:
    """Weights that learn on a loader; the schedule moves once per step, also per skipped one.

    `Sampled` (engine/sampled.py) and `Bilevel` (engine/bilevel.py) add what a search learns.

    Attributes:
        pass_name: of the pass over the loader.
        state_names: of optimiser, schedule and loader in a checkpoint.
    """

    session: Session
    optimizer: Optimizer
    schedule: LRScheduler
    loader: SampleLoader

    pass_name = "train"
    state_names = ("optimizer", "schedule", "loader")

    @classmethod
    def make(
        cls, session: Session, recipe: Recipe, loader: SampleLoader, epochs: int, /, repeat: bool = False, **more: Any
    ) -> "Training":
        """Return what trains the session's model by a recipe, for so many epochs; `repeat`: several times."""
        optimizer, steps = make_optimizer(recipe, session.model), session.compute.num_steps(loader)
        schedule = make_schedule(recipe, optimizer, steps=steps, epochs=epochs, repeat=repeat)
        return cls(session, optimizer, schedule, loader, **more)

    @property
    def stateful(self) -> dict:
        """Objects whose state a checkpoint holds beside the session."""
        return dict(zip(self.state_names, (self.optimizer, self.schedule, self.loader)))

    def start_epoch(self, epoch: int) -> Row:
        """Choose the draws of an epoch; returns what it logs of its start."""
        self.loader.set_epoch(epoch)
        return {"lr": self.schedule.get_last_lr()[0]}

    def train_epoch(self) -> Row:
        """Do, or end, the passes of the epoch; returns what they log."""
        run_pass(self.session, self.loader, self.step, self.pass_name)
        meters = self.session.progress.meters(self.pass_name)
        means = meters.means("train")
        if means["train_loss"] is None:
            epoch, advice = self.session.progress.epochs_done, "lower the learning rate, or check the start weights"
            raise UserError(f"epoch {epoch}: expected steps of finite loss, found none: {advice}")
        speed = {"pairs_per_s": meters.samples / meters.seconds, "bad_steps": self.session.guard.seen}
        return means | speed

    def step(self, batches: list[dict]) -> None:
        optimisation_step(self.session, batches, self.optimizer, self.pass_name)
        self.schedule.step()


@dataclass(frozen=True)
class Untrained:
    """Takes the place of `Training` where a network has nothing to learn: an epoch is its evaluation alone."""

    session: Session
    stateful: dict = field(default_factory=dict)

    def start_epoch(self, epoch: int) -> Row:
        return {}

    def train_epoch(self) -> Row:
        return {}


def run_epochs(
    learner: Training | Untrained,
    validate: Callable[[], Metrics],
    epochs: int,
    on_epoch: Callable[[Row, bool], None],
    describe: Callable[[], Row] = dict,
    should_stop: Callable[[], str] = lambda: "",
) -> str:
    """Run the epochs that are left, the one under way from where it was left: learn, validate, keep the best, report.

    Args:
        validate: returns metrics of the `val` part.
        on_epoch: gets the epoch's row and whether it is the best so far; writes checkpoints and logs.
        describe: returns what a row says of the architecture after an epoch (entropy, arg-max, operation counts).
        should_stop: asked between epochs; says why no more are to follow, or nothing.

    Returns:
        What `should_stop` said; nothing where all epochs were run.
    """
    session, progress = learner.session, learner.session.progress
    for epoch in range(progress.epochs_done, epochs):
        if epoch and not progress.row and (reason := should_stop()):
            return reason
        progress.row = progress.row or {"epoch": epoch} | learner.start_epoch(epoch)
        row = progress.row | learner.train_epoch() | describe()
        row["train_seconds"] = sum(meters.seconds for meters in progress.passes.values())
        learned = time.perf_counter()
        metrics = validate()
        row |= {f"{name}_val": value for name, value in metrics.items()}
        row |= {"val_seconds": time.perf_counter() - learned, "memory_mb": peak_memory_mb()}
        on_epoch(row, progress.update(epoch, metrics[session.task.metric]))
    return ""


def peak_memory_mb() -> float:
    """Return the peak memory so far: of the GPU where one is used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
