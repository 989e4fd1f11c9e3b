"""Bilevel search: weights on the `train` part, architecture logits on the `arch` part (DARTS, 1806.09055, algorithm 1).

Published NAS-DSF schedule: one epoch of weights, then one of logits (`alternate="epoch"`); per-step alternation is
`alternate="step"`. The genotype that counts is that of the epoch whose supernet has the best AP on `val`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice

from torch import Tensor
from torch.optim import Optimizer

from datasets.loader import SampleLoader
from engine.epochs import Training
from engine.progress import Row
from engine.step import move, optimisation_step, parameters_of, run_pass
from models.search.relaxations import EVALUATION, Stage
from models.search.second_order import second_order_backward
from utils.seed import per_rank_rng


@dataclass(frozen=True)
class Bilevel(Training):
    """The two sides of a search by gradients: a training of the weights, and the logits beside it.

    Args:
        arch_optimizer: of the logits; a step of either optimiser moves only its own parameters.
        arch_loader: of the part that the logits learn on.
        alternate: "epoch" or "step".
        second_order: logits follow the second-order gradient of DARTS, each step with a batch of `train`.
        epochs: of the whole search.
        warmup: epochs in which the logits do not learn.
        set_stage: called with the stage before each step and before an evaluation; relaxations depend on it.
        penalty: added to the loss of the logits: of a strategy, and of costs.
    """

    arch_optimizer: Optimizer
    arch_loader: SampleLoader
    alternate: str
    second_order: bool
    epochs: int
    warmup: int = 0
    set_stage: Callable[[Stage], None] = lambda stage: None
    penalty: Callable[[], Tensor] | None = None

    pass_name = "weights"
    state_names = ("weights", "schedule", "train")

    @property
    def stateful(self) -> dict:
        return super().stateful | {"logits": self.arch_optimizer, "arch": self.arch_loader}

    def start_epoch(self, epoch: int) -> Row:
        self.arch_loader.set_epoch(epoch)
        return super().start_epoch(epoch) | {"arch_lr": self.arch_optimizer.param_groups[0]["lr"]}

    def train_epoch(self) -> Row:
        if self.alternate == "epoch":
            self._epoch_by_epoch()
        else:
            self._step_by_step()
        self.set_stage(EVALUATION)
        weights, logits = both = [self.session.progress.meters(name) for name in ("weights", "logits")]
        speed = {"pairs_per_s": sum(m.samples for m in both) / sum(m.seconds for m in both)}
        counts = {"pairs": sum(m.samples for m in both), "bad_steps": self.session.guard.seen}
        return weights.means("train") | logits.means("arch") | speed | counts

    def _epoch_by_epoch(self) -> None:
        run_pass(self.session, self.loader, self.step, "weights")
        if self._warm:
            return
        train_batches = cycle_batches(self.loader) if self.second_order else cycle([None])
        run_pass(self.session, self.arch_loader, lambda group: self._arch_step(group, next(train_batches)), "logits")

    def _step_by_step(self) -> None:
        arch_batches = cycle_batches(self.arch_loader)

        def both(batches: list[dict]) -> None:
            if not self._warm:
                self._arch_step(list(islice(arch_batches, self.session.compute.accum)), batches[0])
            self.step(batches)

        run_pass(self.session, self.loader, both, "weights")

    @property
    def _warm(self) -> bool:
        """Whether the logits do not learn yet."""
        return self.session.progress.epochs_done < self.warmup

    def _begin_step(self, learning: str) -> None:
        self.set_stage(Stage(self.session.progress.epochs_done / self.epochs, learning))

    def step(self, batches: list[dict]) -> None:
        self._begin_step("weights")
        super().step(batches)

    def _arch_step(self, batches: list[dict], train_batch: dict | None) -> None:
        self._begin_step("logits")
        model, compute = self.session.model, self.session.compute

        def losses_of(batch: dict) -> dict[str, Tensor]:
            with compute.autocast():
                return self.session.task.losses(model, batch, compute.ranks)

        def arch_losses(batch: dict) -> dict[str, Tensor]:
            losses = losses_of(batch)
            penalty = 0 if self.penalty is None else self.penalty()
            return losses | {"loss": losses["loss"] + penalty, "plain": losses["loss"]}

        def backward() -> dict[str, Tensor]:
            (arch_batch,) = batches
            train, arch = (move(batch, compute.device) for batch in (train_batch, arch_batch))
            values = {"train_losses": lambda: losses_of(train), "arch_losses": lambda: arch_losses(arch)}
            values |= {"weights": parameters_of(self.optimizer), "logits": parameters_of(self.arch_optimizer)}
            values |= {"xi": self.schedule.get_last_lr()[0], "average": compute.ranks.mean}
            with per_rank_rng(compute.ranks, compute.device, "logits", self.session.progress.steps):
                losses = second_order_backward(model, **values)
            plain = losses.pop("plain")  # meters count the loss without the penalty
            return losses | {"loss": plain}

        kind = {"backward": backward} if self.second_order else {"penalty": self.penalty}
        optimisation_step(self.session, batches, self.arch_optimizer, "logits", **kind)


def cycle_batches(loader: Iterable[dict]) -> Iterator[dict]:
    """Yield the loader's batches, from the start again when they run out."""
    while True:
        yield from loader
