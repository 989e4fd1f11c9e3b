"""The epoch loop that every phase runs in, and training of weights: pretraining, the head phase, the found network."""

import resource
import sys
import time
from collections.abc import Callable

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from engine.progress import Row
from engine.step import Session, optimisation_step, run_pass


def run_epochs(
    session: Session,
    epochs: int,
    start_epoch: Callable[[int], Row],
    train_epoch: Callable[[], Row],
    validate: Callable[[], dict[str, float | None]],
    on_epoch: Callable[[Row, bool], None],
    should_stop: Callable[[], str] = lambda: "",
) -> str:
    """Run the epochs that are left, the one under way from where it was left: learn, validate, keep the best, report.

    Args:
        begin: prepares an epoch and returns what it logs of its start.
        learn: does, or ends, the passes of the epoch and returns what they log.
        validate: returns metrics of the `val` part.
        on_epoch: gets the epoch's row and whether it is the best so far; writes checkpoints and logs.
        enough: asked between epochs; says why no more are to follow, or nothing.

    Returns:
        What `should_stop` said; nothing where all epochs were run.
    """
    progress = session.progress
    for epoch in range(progress.epochs_done, epochs):
        if epoch and not progress.row and (reason := should_stop()):
            return reason
        progress.row = progress.row or {"epoch": epoch} | start_epoch(epoch)
        row = progress.row | train_epoch()
        row["train_seconds"] = sum(meters.seconds for meters in progress.passes.values())
        learned = time.perf_counter()
        metrics = validate()
        row |= {f"{name}_val": value for name, value in metrics.items()}
        row |= {"val_seconds": time.perf_counter() - learned, "memory_mb": peak_memory_mb()}
        on_epoch(row, progress.update(epoch, metrics[session.task.metric]))
    return ""


def train(
    session: Session,
    optimizer: Optimizer,
    schedule: LRScheduler,
    loader,
    validate: Callable[[], dict[str, float | None]],
    epochs: int,
    on_epoch: Callable[[Row, bool], None],
) -> None:
    """Train the optimiser's parameters on the loader; the schedule moves once per step, also per skipped one."""

    def step(batches: list[dict]) -> None:
        optimisation_step(session, batches, optimizer)
        schedule.step()

    def start_epoch(epoch: int) -> Row:
        loader.set_epoch(epoch)
        return {"lr": schedule.get_last_lr()[0]}

    def train_epoch() -> Row:
        run_pass(session, loader, step, "train")
        meters = session.progress.meters("train")
        speed = {"pairs_per_s": meters.samples / meters.seconds, "bad_steps": session.guard.seen}
        return meters.means("train") | speed

    run_epochs(session, epochs, start_epoch, train_epoch, validate, on_epoch)


def peak_memory_mb() -> float:
    """Return the peak memory so far: of the GPU where one is used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
