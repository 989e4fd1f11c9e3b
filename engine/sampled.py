"""Searches that draw genotypes in place of learning logits.

`candidates`: every genotype is trained on its own for a share of the epochs (random search, 1902.07638). `paths`: every
step trains another genotype on the supernet's weights, which then rank genotypes for evolution (evolution.py).
Weights learn on `train` and `arch`, as many pairs per epoch as a search by gradients; genotypes are rated on `val`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.loader import SampleLoader
from engine.progress import Row
from engine.step import Session, optimisation_step, run_pass
from models.search.fusion_cells.genotype import Genotype


@dataclass(frozen=True)
class Sampled:
    """The learning side of such a search.

    Args:
        optimizer, schedule: of the weights; the schedule starts anew with each candidate.
        loader: of the pairs to learn on.
        take: makes the model run as a genotype.
        candidate: the genotype of a number from 0, which is rated at the end of an epoch.
        of_step: the genotype that an optimiser step of a number trains; None: the candidate.
        restart: puts weights and optimiser back to the start, before each candidate; None: there is one.
        epochs_each: of a candidate.
        same_pairs: each candidate meets the pairs in the same order and mirrored alike, which takes noise from what
            tells them apart.
    """

    session: Session
    optimizer: Optimizer
    schedule: LRScheduler
    loader: SampleLoader
    take: Callable[[Genotype], None]
    candidate: Callable[[int], Genotype]
    of_step: Callable[[int], Genotype] | None = None
    restart: Callable[[], None] | None = None
    epochs_each: int = 1
    same_pairs: bool = False

    def start_epoch(self, epoch: int) -> Row:
        """Choose the draws of an epoch, and start a candidate where one is due; returns the learning rate."""
        self.loader.set_epoch(epoch % self.epochs_each if self.same_pairs else epoch)
        if self.restart and epoch % self.epochs_each == 0:
            self.restart()
        return {"lr": self.schedule.get_last_lr()[0]}

    def train_epoch(self) -> Row:
        """Do, or end, the pass of an epoch; the model then runs as the genotype to be rated."""
        self.take(self.scored)
        run_pass(self.session, self.loader, self._step, "weights")
        self.take(self.scored)
        meters = self.session.progress.meters("weights")
        counts = {"pairs": meters.samples, "bad_steps": self.session.guard.seen}
        return meters.means("train") | {"pairs_per_s": meters.samples / meters.seconds} | counts

    @property
    def scored(self) -> Genotype:
        """The candidate of the epoch under way."""
        return self.candidate(self.session.progress.epochs_done // self.epochs_each if self.restart else 0)

    @property
    def stateful(self) -> dict:
        """What a checkpoint keeps beside the session."""
        return {"weights": self.optimizer, "schedule": self.schedule, "learning": self.loader}

    def _step(self, batches: list[dict]) -> None:
        if self.of_step:
            self.take(self.of_step(self.session.progress.steps))
        optimisation_step(self.session, batches, self.optimizer, "weights")
        self.schedule.step()
