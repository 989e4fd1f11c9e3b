"""Skip, name and count optimiser steps whose loss or gradient is not finite; too many of them end a run.

A skipped step leaves parameters, optimiser state and running statistics of norms as they were before it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.progress import Log
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UserError


class Guard:
    """Takes optimiser steps whose loss and gradient are finite; a phase of a run has one, for all its optimisers.

    On a CPU each step is checked before it is taken. On a GPU a check waits for all work given to it. There the device
    itself skips bad steps, and every step once there are too many, and the loop calls `check_pending` now and then.
    Both ways end with the same numbers.

    Args:
        device: of losses and parameters.
        max_bad_steps: steps that may be skipped, in all.
        log: gets a line per skipped step.
        ranks: which all see the same losses and gradients; a message names the pairs of each.

    Attributes:
        synchronous: each step is checked before it is taken, on every device but a CUDA one; otherwise optimisers
            must be fused, since only these can skip.
    """

    def __init__(self, device: torch.device, max_bad_steps: int = 0, log: Log = print, ranks: Ranks = SINGLE_PROCESS):
        self.synchronous = device.type != "cuda"
        self.max_bad_steps, self.log, self.ranks = max_bad_steps, log, ranks
        self.bad = torch.zeros((), device=device)  # bad steps so far, as the device counts them
        self.seen = 0  # of these, named
        self.pending: list[tuple[Tensor, Tensor, list[str]]] = []

    def snapshot_buffers(self, model: nn.Module) -> Callable[[Tensor], None]:
        """Copy the running statistics of what is in training; returns what takes them back unless a step is good."""
        buffers = [b for module in model.modules() if module.training for b in module.buffers(recurse=False)]
        before = [b.clone() for b in buffers]

        def restore(good: Tensor) -> None:
            if not self.synchronous or not good:
                for buffer, earlier in zip(buffers, before):
                    buffer.copy_(torch.where(good, buffer, earlier))

        return restore

    def step(self, optimizer: Optimizer, loss: Tensor, norm: Tensor, names: list[str]) -> Tensor:
        """Take a step unless it is bad, or too many before it were.

        Args:
            loss, norm: scalars of this step.
            names: of the pairs that it learns from, for the message.

        Returns:
            Whether it was taken, a bool scalar on the device.
        """
        self.pending.append((loss.detach(), norm.detach(), names))
        finite = torch.isfinite(loss.detach() + norm.detach())
        self.bad = self.bad + ~finite
        good = finite & (self.bad <= self.max_bad_steps)
        if not self.synchronous:
            optimizer.found_inf = (~good).float()  # where torch.amp.GradScaler puts its own; other kinds refuse it
        if not self.synchronous or good:
            optimizer.step()
        return good

    def check_pending(self) -> None:
        """Check the steps since the last check and name the bad ones.

        Raises:
            UserError: there are more of them than may be; names the first one too many.
        """
        steps, self.pending = self.pending, []
        for loss, norm, names in steps:
            if torch.isfinite(loss + norm):
                continue
            what = f"loss {loss.item():.4g}, gradient norm {norm.item():.4g}: expected finite numbers; pairs "
            what += ", ".join(self.ranks.all_gather(names))
            if self.seen >= self.max_bad_steps:
                raise UserError(f"{what}; {self._advice()}")
            self.seen += 1
            self.log(f"step skipped, {self.seen} of at most {self.max_bad_steps}: {what}")

    def _advice(self) -> str:
        skipped = f"--max_bad_steps {self.max_bad_steps} were skipped before" if self.max_bad_steps else ""
        return f"{skipped or '--max_bad_steps N skips up to N such steps'}; a lower learning rate may help"

    def state_dict(self) -> dict:
        """Return the count, which is that of the last look."""
        return {"seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        self.seen = state["seen"]
        self.bad = torch.full_like(self.bad, self.seen)
