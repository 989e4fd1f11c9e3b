"""One optimisation step and one evaluation pass: shared by pretraining, search and training, by every task.

A task is a module with `losses(model, batch) -> dict with "loss"`, `predict(model, batch)` and `make_evaluator`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from utils.errors import UserError


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed: the device, bfloat16 autocast or not, the norm gradients are cut to."""

    device: torch.device
    amp: bool = False
    clip_grad: float = float("inf")

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in channels-last layout: faster on a CPU (results/memory_format.csv)."""
        return model.to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)


class Meters:
    """Means over steps, kept on the device until they are read."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.samples = 0

    def add(self, losses: dict[str, Tensor], batch: dict) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.steps += 1
        self.samples += len(batch["image_ids"])

    def means(self, prefix: str) -> dict[str, float]:
        return {f"{prefix}_{name}": float(total) / self.steps for name, total in self.sums.items()}


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
    batch: dict,
    task: ModuleType,
    optimizer: Optimizer,
    compute: Compute,
    backward: Callable[[], dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Move the optimiser's parameters, and only those, by the gradient of the task's loss on one batch.

    Args:
        backward: computes the loss dict and leaves the gradients in the parameters; default: plain first order.

    Returns:
        The loss dict.

    Raises:
        UserError: loss or gradient is not finite; names the batch's images. Parameters are as before the step.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad(set_to_none=True)
    if backward is None:
        with compute.autocast():
            losses = task.losses(model, batch)
        losses["loss"].backward(inputs=parameters)
    else:
        losses = backward()
    norm = nn.utils.clip_grad_norm_(parameters, compute.clip_grad)
    if not torch.isfinite(losses["loss"] + norm):
        raise UserError(
            f"loss {losses['loss'].item():.4g}, gradient norm {norm.item():.4g}: expected finite numbers; "
            f"images {', '.join(map(str, batch['image_ids']))}; a lower learning rate may help"
        )
    optimizer.step()
    return losses


def train_epoch(
    model: nn.Module,
    batches: Iterable[dict],
    take_step: Callable[[dict], dict[str, Tensor]],
    compute: Compute,
    title: str,
) -> Meters:
    """Take one step per batch, with a progress bar; returns the meters of the loss dict."""
    model.train()
    meters = Meters()
    bar = tqdm(batches, desc=title, leave=False, disable=None)
    for batch in bar:
        meters.add(take_step(move(batch, compute.device)), batch)
        if meters.steps % 10 == 1:
            bar.set_postfix(loss=f"{float(meters.sums['loss']) / meters.steps:.3f}")
    return meters


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
