"""One optimisation step and one evaluation pass: shared by pretraining, search and training, by every task."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.compute import Compute
from engine.data_parallel import make_replica
from engine.nonfinite import Guard
from engine.progress import Progress
from engine.task import Evaluator, Metrics, Task
from utils.checkpoint import map_leaves
from utils.distributed import Ranks
from utils.errors import UserError
from utils.progress_bar import bar
from utils.seed import per_rank_rng

T = TypeVar("T")


INPUTS = ("images", "versions", "features", "inputs")  # of a batch: what models read
LOOK_EVERY = 10  # steps; a look at a number on a GPU waits for all work given to it


def do_nothing() -> None:
    """Take the place of a callback where nothing is saved."""


@dataclass
class Session:
    """What every step of a phase of a run works with.

    Args:
        task: what is learned.
        guard: takes the steps, or skips those whose numbers are not finite.
        progress: where the phase stands; steps and passes move it on.
        on_step_end: called between steps, and between batches of an evaluation: where a run may be saved, or end.
    """

    model: nn.Module
    task: Task
    compute: Compute
    guard: Guard
    progress: Progress = field(default_factory=Progress)
    on_step_end: Callable[[], None] = do_nothing
    replicas: dict[tuple[int, ...], nn.Module] = field(default_factory=dict)

    def replica(self, parameters: list[nn.Parameter]) -> nn.Module:
        """Return the model as steps of these parameters run it: with gradients averaged over the ranks."""
        if self.compute.ranks.count == 1:
            return self.model
        key = tuple(map(id, parameters))
        if key not in self.replicas:
            self.replicas[key] = make_replica(self.model, parameters)
        return self.replicas[key]


def move(batch: T, device: torch.device) -> T:
    """Move every tensor of a batch, also those in lists, tuples and dicts below."""
    return map_leaves(batch, lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf)


def optimisation_step(
    session: Session,
    batches: list[dict],
    optimizer: Optimizer,
    name: str = "train",
    backward: Callable[[], dict[str, Tensor]] | None = None,
    penalty: Callable[[], Tensor] | None = None,
) -> None:
    """Move the optimiser's parameters, and only those, by the mean gradient of the task's loss on some batches.

    Args:
        batches: they are moved to the device one after another, so that they need the memory of one there.
        name: of the pass whose meters count the loss dict of each batch.
        backward: computes the loss dict of the only batch and leaves the gradients in the parameters; default: plain
            first order.
        penalty: added to the loss whose gradient is taken; the meters count the loss without it. Not with `backward`.

    Raises:
        UserError: too many steps were bad. On a GPU it is `guard.look` that raises it, some steps later.
    """
    parameters = parameters_of(optimizer)
    optimizer.zero_grad(set_to_none=True)
    restore = session.guard.snapshot_buffers(session.model)
    compute = session.compute

    def add_gradients(batch: dict, left: int) -> dict[str, Tensor]:
        """Add a batch's share of the mean gradient; with the last one, none is left, and ranks exchange gradients."""
        replica = session.replica(parameters)
        waiting = replica.no_sync() if left and compute.ranks.count > 1 else contextlib.nullcontext()
        with waiting, per_rank_rng(compute.ranks, compute.device, name, session.progress.steps, left):
            with compute.autocast():
                losses = session.task.losses(replica, move(batch, compute.device), compute.ranks)
            loss = losses["loss"] if penalty is None else losses["loss"] + penalty()
            (loss / len(batches)).backward(inputs=parameters)
        return {key: value.detach() for key, value in losses.items()}

    if backward is None:
        losses = [add_gradients(batch, len(batches) - number) for number, batch in enumerate(batches, 1)]
    else:
        losses = [backward()]
    losses = [dict(zip(one, compute.ranks.mean([*one.values()]), strict=True)) for one in losses]
    norm = nn.utils.clip_grad_norm_(parameters, compute.clip_grad)
    loss = torch.stack([one["loss"] for one in losses]).mean()
    good = session.guard.step(optimizer, loss, norm, [name for batch in batches for name in batch["file_names"]])
    restore(good)
    session.progress.meters(name).add(losses, batches, good)
    if session.guard.synchronous:
        session.guard.check_pending()


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """Return what an optimiser moves."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def run_pass(session: Session, loader: Iterable[dict], take_step: Callable[[list[dict]], None], name: str) -> None:
    """Take one step per `compute.accum` batches of the loader, from where the pass was left, with a progress bar.

    Args:
        take_step: called with these batches, fewer in the last step.
        name: of the pass; its meters are in the session's progress.
    """
    session.model.train()
    guard, progress, meters = session.guard, session.progress, session.progress.meters(name)
    last = time.perf_counter()
    shown = bar([] if meters.finished else loader, f"epoch {progress.epochs_done} {name}")
    for number, group in enumerate(groups_of(shown, session.compute.accum)):
        take_step(group)
        progress.steps += 1
        if number % LOOK_EVERY == 0:
            guard.check_pending()
            shown.set_postfix({key: f"{mean:.3f}" for key, mean in meters.means(name).items() if mean is not None})
        now = time.perf_counter()
        meters.seconds, last = meters.seconds + now - last, now
        session.on_step_end()
    guard.check_pending()
    meters.finished = True


def groups_of(batches: Iterable[dict], size: int) -> Iterator[list[dict]]:
    """Yield lists of `size` batches; the last one may be shorter."""
    each = iter(batches)
    return iter(lambda: list(islice(each, size)), [])


@torch.no_grad()
def evaluate(session: Session, batches: Iterable[dict], evaluator: Evaluator, title: str) -> Metrics:
    """Run the model in eval mode over all batches and return the evaluator's metrics; ranks take turns at batches."""
    session.model.eval()
    ranks, answered = session.compute.ranks, []
    for batch in in_turn(bar(batches, title), ranks):
        if batch is not None:
            batch = move(batch, session.compute.device)
            with session.compute.autocast():
                predictions = session.task.predict(session.model, batch)
            if ranks.count == 1:
                evaluator.add(batch, predictions)
            else:
                answered.append(move((batch["number"], without_inputs(batch), predictions), torch.device("cpu")))
        session.on_step_end()
    answered = sorted(ranks.all_gather(answered), key=lambda one: one[0])
    if ranks.count > 1 and not answered:  # of one process the loader says it
        raise UserError(f"{title}: expected pairs that can be read, found none")
    for _, batch, predictions in answered:
        evaluator.add(batch, predictions)
    return ranks.broadcast_from_first(evaluator.compute)


def validator(session: Session, data: Any, part: str, full: bool = False) -> tuple[Callable[[], Metrics], list]:
    """Return a function that evaluates the model on a part, and a list that holds the answers of its last call.

    `full`: with all that a test records.
    """
    loader, answers = data.loader(part, train=False), []

    def validate() -> Metrics:
        evaluator = session.task.make_evaluator(data, part, full)
        metrics = evaluate(session, loader, evaluator, f"evaluate {part}")
        data.bad_files.merge(session.compute.ranks)
        answers[:] = evaluator.answers
        return metrics

    return validate, answers


def in_turn(batches: Iterable[dict], ranks: Ranks) -> Iterator[dict | None]:
    """Yield the batches of this rank, and None where others may still have one: all ranks do as many rounds."""
    rounds = range(len(batches)) if ranks.count > 1 else ()
    return (batch for batch, _ in zip_longest(batches, rounds))


def without_inputs(batch: dict) -> dict:
    """Return what a batch tells beside what a model reads."""
    return {name: value for name, value in batch.items() if name not in INPUTS}
