"""Penalties of strategies: terms that are added to the loss of the architecture logits, one tensor of logits at a time.

Shapes: logits (..., O), O operations.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.search.relaxations import concentrations

ZERO_ONE_WEIGHT = 10.0  # w01 of Fair DARTS, section 4.1
KL_WEIGHT = 1e-3  # lambda of DrNAS, section 4


def zero_one(logits: Tensor) -> Tensor:
    """Return the loss of Fair DARTS that pushes weights off 0.5 (1911.12126, equation 6)."""
    return -ZERO_ONE_WEIGHT * (logits.sigmoid() - 0.5).square().mean()


def pull_to_start(logits: Tensor) -> Tensor:
    """Return lambda KL(Dirichlet(elu(logits) + 1) | Dirichlet(1)), DrNAS' logits at their start (section 3.2)."""
    now = concentrations(logits)
    pairs = torch.distributions.Dirichlet(now), torch.distributions.Dirichlet(torch.ones_like(now))
    return KL_WEIGHT * torch.distributions.kl_divergence(*pairs).sum()


PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {"zero_one": zero_one, "pull_to_start": pull_to_start}
