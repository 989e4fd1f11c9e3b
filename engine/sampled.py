"""Searches that draw architectures in place of learning logits.

Random search (1902.07638) trains every architecture on its own for a share of the epochs. Evolution (evolution.py)
first trains the supernets' weights, with another architecture in each step, and then ranks architectures on them.
Weights learn on `train` and `arch`, as many samples per epoch as in a search by gradients; `val` rates architectures.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from engine.epochs import Training
from engine.progress import Row
from engine.step import run_pass
from models.search.architecture import Architecture


@dataclass(frozen=True)
class Sampled(Training):
    """The learning side of such a search; the schedule starts anew with each candidate.

    Args:
        activate: makes the model run as an architecture.
        candidate: returns the architecture of a number from 0, which is rated at the end of an epoch.
        of_step: returns the architecture that an optimiser step of a number trains; None: the candidate.
        start: state of what learns, from which each candidate starts, its optimiser anew; None: there is one candidate.
        epochs_each: epochs of a candidate.
        same_batches: every candidate learns from the same batches, so that their scores differ by less noise.
    """

    activate: Callable[[Architecture], None]
    candidate: Callable[[int], Architecture]
    of_step: Callable[[int], Architecture] | None = None
    start: dict[str, Tensor] | None = None
    epochs_each: int = 1
    same_batches: bool = False

    pass_name = "weights"
    state_names = ("weights", "schedule", "learning")

    def start_epoch(self, epoch: int) -> Row:
        """Set the loader to an epoch, and start the next candidate where it is due; return the learning rate."""
        if self.start is not None and epoch % self.epochs_each == 0:
            self.session.model.load_state_dict(self.start, strict=False)
            self.optimizer.state.clear()
        return super().start_epoch(epoch % self.epochs_each if self.same_batches else epoch)

    def train_epoch(self) -> Row:
        """Do, or finish, the pass of an epoch; afterwards the model runs as the architecture that is rated."""
        self.activate(self.scored)
        run_pass(self.session, self.loader, self.step, self.pass_name)
        self.activate(self.scored)
        meters = self.session.progress.meters(self.pass_name)
        counts = {"pairs": meters.samples, "bad_steps": self.session.guard.seen}
        return meters.means("train") | {"pairs_per_s": meters.samples / meters.seconds} | counts

    @property
    def scored(self) -> Architecture:
        """The candidate of the present epoch."""
        return self.candidate(0 if self.start is None else self.session.progress.epochs_done // self.epochs_each)

    def step(self, batches: list[dict]) -> None:
        if self.of_step:
            self.activate(self.of_step(self.session.progress.steps))
        super().step(batches)
