"""One optimisation step and one evaluation pass: shared by pretraining, search and training, by every task.

A task is a module with `losses(model, batch) -> dict with "loss"`, `predict(model, batch)` and `make_evaluator`.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from engine.guard import Guard

LOOK_EVERY = 10  # steps; a look at a number on a GPU waits for all work given to it


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Args:
        device: of model and batches.
        amp: bfloat16 autocast.
        clip_grad: the norm that gradients are cut to.
        accum: batches whose gradients are averaged for one optimiser step.
        compile: torch.compile the model's blocks, each when it is first called.
    """

    device: torch.device
    amp: bool = False
    clip_grad: float = float("inf")
    accum: int = 1
    compile: bool = False

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in channels-last layout: faster on a CPU (results/memory_format.csv)."""
        for block in model.blocks() if self.compile else ():
            block.compile()  # in place: names in the state dict stay
        return model.to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    def num_steps(self, loader: Sized) -> int:
        """Return the optimiser steps of one pass over the loader."""
        return -(-len(loader) // self.accum)


class Meters:
    """Means over batches, kept on the device until they are read."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.batches = 0
        self.samples = 0

    def add(self, losses: list[dict[str, Tensor]], batches: list[dict]) -> None:
        """Count a step: one loss dict per batch."""
        for one, batch in zip(losses, batches, strict=True):
            for name, value in one.items():
                self.sums[name] = self.sums.get(name, 0) + value.detach()
            self.batches += 1
            self.samples += len(batch["image_ids"])

    def means(self, prefix: str) -> dict[str, float]:
        return {f"{prefix}_{name}": float(total) / self.batches for name, total in self.sums.items()}


def move(batch: dict, device: torch.device) -> dict:
    """Move every tensor of a batch, also those in lists and dicts one level down."""

    def go(value):
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        if isinstance(value, dict):
            return {k: go(v) for k, v in value.items()}
        if isinstance(value, list):
            return [go(v) for v in value]
        return value

    return go(batch)


def optimisation_step(
    model: nn.Module,
    batches: list[dict],
    task: ModuleType,
    optimizer: Optimizer,
    compute: Compute,
    guard: Guard,
    backward: Callable[[], dict[str, Tensor]] | None = None,
) -> list[dict[str, Tensor]]:
    """Move the optimiser's parameters, and only those, by the mean gradient of the task's loss on some batches.

    Args:
        batches: they are moved to the device one after another, so that they need the memory of one there.
        guard: takes the step.
        backward: computes the loss dict of the only batch and leaves the gradients in the parameters; default: plain
            first order.

    Returns:
        The loss dict of each batch.

    Raises:
        UserError: loss or gradient is not finite; names the images of all batches. Parameters are as before the step.
            On a GPU it is `guard.look` that raises it, some steps later.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad(set_to_none=True)
    if backward is None:
        losses = [_add_gradients(model, batch, task, parameters, compute, len(batches)) for batch in batches]
    else:
        losses = [backward()]
    norm = nn.utils.clip_grad_norm_(parameters, compute.clip_grad)
    loss = torch.stack([one["loss"] for one in losses]).mean()
    guard.step(optimizer, loss, norm, [image_id for batch in batches for image_id in batch["image_ids"]])
    return losses


def _add_gradients(
    model: nn.Module, batch: dict, task: ModuleType, parameters: list[nn.Parameter], compute: Compute, num_batches: int
) -> dict[str, Tensor]:
    """Add a batch's share of the mean gradient; returns its loss dict without the graph."""
    with compute.autocast():
        losses = task.losses(model, move(batch, compute.device))
    (losses["loss"] / num_batches).backward(inputs=parameters)
    return {name: value.detach() for name, value in losses.items()}


def train_epoch(
    model: nn.Module,
    batches: Iterable[dict],
    take_step: Callable[[list[dict], Guard], list[dict[str, Tensor]]],
    compute: Compute,
    title: str,
) -> Meters:
    """Take one step per `compute.accum` batches, with a progress bar; returns the meters of the loss dicts.

    Args:
        take_step: called with these batches, fewer in the last step, and the guard of the epoch.
    """
    model.train()
    meters, guard = Meters(), Guard(compute.device)
    bar = tqdm(batches, desc=title, leave=False, disable=None)
    for number, group in enumerate(groups_of(bar, compute.accum)):
        meters.add(take_step(group, guard), group)
        if number % LOOK_EVERY == 0:
            guard.look()
            bar.set_postfix(loss=f"{float(meters.sums['loss']) / meters.batches:.3f}")
    guard.look()
    return meters


def groups_of(batches: Iterable[dict], size: int) -> Iterator[list[dict]]:
    """Yield lists of `size` batches; the last one may be shorter."""
    each = iter(batches)
    return iter(lambda: list(islice(each, size)), [])


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[dict], task: ModuleType, evaluator, compute: Compute, title: str
) -> dict[str, float | None]:
    """Run the model in eval mode over all batches and return the evaluator's metrics."""
    model.eval()
    for batch in tqdm(batches, desc=title, leave=False, disable=None):
        batch = move(batch, compute.device)
        with compute.autocast():
            predictions = task.predict(model, batch)
        evaluator.add(batch, predictions)
    return evaluator.compute()
