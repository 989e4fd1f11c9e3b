"""How far a phase of a run is, down to the step: what a checkpoint keeps beside tensors, so that a run can go on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Row = dict[str, float | int | str | None]
Log = Callable[[str], None]


class Meters:
    """Means over the batches of one pass over the data, kept on the device until they are read.

    Attributes:
        samples: pairs met, also in steps that were skipped.
        seconds: spent in the pass.
        finished: whether the pass is over.
    """

    def __init__(self):
        self.sums: dict[str, Tensor | float] = {}
        self.batches: Tensor | int = 0
        self.samples, self.seconds, self.finished = 0, 0.0, False

    def add(self, losses: list[dict[str, Tensor]], batches: list[dict], good: Tensor) -> None:
        """Count a step: one loss dict per batch; the numbers of a bad step are left out of the means."""
        for one, batch in zip(losses, batches, strict=True):
            for name, value in one.items():
                self.sums[name] = self.sums.get(name, 0) + torch.where(good, value.detach(), 0)
            self.batches = self.batches + good
            self.samples += batch.get("size", len(batch["image_ids"]))  # of all ranks

    def means(self, prefix: str) -> dict[str, float | None]:
        """Return the mean of each loss; None where every step was bad."""
        count = int(self.batches)
        return {f"{prefix}_{name}": float(total) / count if count else None for name, total in self.sums.items()}

    def state_dict(self) -> dict:
        """Return plain values; added up again they give the same numbers."""
        return vars(self) | {"sums": {k: float(v) for k, v in self.sums.items()}, "batches": int(self.batches)}

    def load_state_dict(self, state: dict) -> None:
        for name in vars(self):
            setattr(self, name, state[name])


def metric_of(row: Row) -> str:
    """Return the name of the number by which an epoch is chosen: in its row the first that is of `val`."""
    return next((name.removesuffix("_val") for name in row if name.endswith("_val")), "AP")


@dataclass
class Progress:
    """Finished epochs, the best score on `val` so far with its epoch, and the epoch under way.

    A score is None where `val` holds nothing to be found; it ranks below every number, so the first epoch stays.

    Attributes:
        steps: optimiser steps of the phase, counting skipped ones.
        row: what the epoch under way logged at its start; empty between epochs.
        passes: the meters of the epoch under way, by name.
    """

    epochs_done: int = 0
    best: float | None = None
    best_epoch: int = -1
    steps: int = 0
    row: Row = field(default_factory=dict)
    passes: dict[str, Meters] = field(default_factory=dict)

    def meters(self, name: str) -> Meters:
        """Return the meters of a pass of the epoch under way."""
        return self.passes.setdefault(name, Meters())

    def update(self, epoch: int, score: float | None) -> bool:
        """Count a finished epoch; return whether it is the best so far (the earlier one on a tie)."""
        self.epochs_done, self.row, self.passes = epoch + 1, {}, {}
        if self.best_epoch >= 0 and (score is None or (self.best is not None and score <= self.best)):
            return False
        self.best, self.best_epoch = score, epoch
        return True

    def in_words(self, metric: str) -> str:
        score = "none: no objects in val" if self.best is None else f"{self.best:.4f}"
        return f"best epoch {self.best_epoch}, {metric}_val {score}"

    def scores(self) -> dict:
        """Return what results tell of a run."""
        return {"epochs_done": self.epochs_done, "best": self.best, "best_epoch": self.best_epoch}

    def state_dict(self) -> dict:
        passes = {name: meters.state_dict() for name, meters in self.passes.items()}
        return self.scores() | {"steps": self.steps, "row": self.row, "passes": passes}

    def load_state_dict(self, state: dict) -> None:
        passes = {name: Meters() for name in state["passes"]}
        for name, meters in passes.items():
            meters.load_state_dict(state["passes"][name])
        for name in vars(self):
            setattr(self, name, (state | {"passes": passes})[name])
