"""What stops a run whose loss or gradient is not finite, with the parameters as they were before that step."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from utils.errors import UserError


class Guard:
    """Takes optimiser steps as long as losses and gradients are finite; an epoch loop owns one, for all its optimisers.

    A look at the numbers is free on a CPU, so each step is looked at before it is taken. On a GPU it waits for all work
    given to it; there the device skips every step from the first bad one on, and the loop calls `look` now and then.

    Args:
        device: of losses and parameters.
        at_once: look at each step before it is taken; otherwise optimisers must be fused, since only these can skip.
            None: on every device but a CUDA one.
    """

    def __init__(self, device: torch.device, at_once: bool | None = None):
        self.at_once = device.type != "cuda" if at_once is None else at_once
        self.stopped = torch.zeros((), device=device)  # 1 from the first bad step on
        self.unseen: list[tuple[Tensor, Tensor, list]] = []

    def step(self, optimizer: Optimizer, loss: Tensor, norm: Tensor, image_ids: list) -> None:
        """Take a step unless it or an earlier one is bad.

        Args:
            loss, norm: scalars of this step.
            image_ids: what the step learns from, for the message.

        Raises:
            UserError: as `look`, where every step is looked at.
        """
        self.unseen.append((loss.detach(), norm, image_ids))
        if self.at_once:
            self.look()
        else:
            self.stopped = torch.maximum(self.stopped, (~torch.isfinite(loss + norm)).float())
            optimizer.found_inf = self.stopped  # where torch.amp.GradScaler puts its own; the other kinds refuse it
        optimizer.step()

    def look(self) -> None:
        """Look at the steps since the last look.

        Raises:
            UserError: a loss or gradient is not finite; names the first such step's images.
        """
        for loss, norm, image_ids in self.unseen:
            if not torch.isfinite(loss + norm):
                raise UserError(
                    f"loss {loss.item():.4g}, gradient norm {norm.item():.4g}: expected finite numbers; "
                    f"images {', '.join(map(str, image_ids))}; a lower learning rate may help"
                )
        self.unseen.clear()
