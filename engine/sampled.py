"""Searches that draw architectures in place of learning logits.

Random search (1902.07638) trains every architecture on its own for a share of the epochs. Evolution (evolution.py)
first trains the supernets' weights, with another architecture in each step, and then ranks architectures on them.
Weights learn on `train` and `arch`, as many samples per epoch as in a search by gradients; `val` rates architectures.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.loader import SampleLoader
from engine.progress import Row
from engine.step import Session, optimisation_step, run_pass
from models.search.architecture import Architecture


@dataclass(frozen=True)
class Sampled:
    """The learning side of such a search.

    Args:
        optimizer, schedule: of the weights; the schedule starts anew with each candidate.
        loader: of the samples to learn on.
        activate: makes the model run as an architecture.
        candidate: returns the architecture of a number from 0, which is rated at the end of an epoch.
        of_step: returns the architecture that an optimiser step of a number trains; None: the candidate.
        restart: resets weights and optimiser before each candidate; None: there is one candidate.
        epochs_each: epochs of a candidate.
        same_batches: every candidate learns from the same batches, so that their scores differ by less noise.
    """

    session: Session
    optimizer: Optimizer
    schedule: LRScheduler
    loader: SampleLoader
    activate: Callable[[Architecture], None]
    candidate: Callable[[int], Architecture]
    of_step: Callable[[int], Architecture] | None = None
    restart: Callable[[], None] | None = None
    epochs_each: int = 1
    same_batches: bool = False

    def start_epoch(self, epoch: int) -> Row:
        """Set the loader to an epoch, and start the next candidate where it is due; return the learning rate."""
        self.loader.set_epoch(epoch % self.epochs_each if self.same_batches else epoch)
        if self.restart and epoch % self.epochs_each == 0:
            self.restart()
        return {"lr": self.schedule.get_last_lr()[0]}

    def train_epoch(self) -> Row:
        """Do, or finish, the pass of an epoch; afterwards the model runs as the architecture that is rated."""
        self.activate(self.scored)
        run_pass(self.session, self.loader, self._step, "weights")
        self.activate(self.scored)
        meters = self.session.progress.meters("weights")
        counts = {"pairs": meters.samples, "bad_steps": self.session.guard.seen}
        return meters.means("train") | {"pairs_per_s": meters.samples / meters.seconds} | counts

    @property
    def scored(self) -> Architecture:
        """The candidate of the present epoch."""
        return self.candidate(self.session.progress.epochs_done // self.epochs_each if self.restart else 0)

    @property
    def stateful(self) -> dict:
        """Objects whose state a checkpoint holds beside the session."""
        return {"weights": self.optimizer, "schedule": self.schedule, "learning": self.loader}

    def _step(self, batches: list[dict]) -> None:
        if self.of_step:
            self.activate(self.of_step(self.session.progress.steps))
        optimisation_step(self.session, batches, self.optimizer, "weights")
        self.schedule.step()
