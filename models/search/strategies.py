"""The search strategies: what each does with logits and weights (specs: strategies). One entry each.

What all share: supernet, bilevel schedule and the count of pairs (engine/bilevel.py). `random` and `evolution` do not
learn logits: engine/sampled.py.

Shapes: logits (..., O), O operations.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.search.relaxations import (
    Relaxation,
    concentrations,
    dirichlet,
    gumbel,
    noisy_softmax,
    sigmoid,
    softmax,
)

ZERO_ONE_WEIGHT = 10.0  # w01 of Fair DARTS, section 4.1
KL_WEIGHT = 1e-3  # lambda of DrNAS, section 4
PARTIAL = 4  # K of PC-DARTS


@dataclass(frozen=True)
class Strategy:
    """How a strategy differs from first-order DARTS.

    Args:
        relaxation: of logits to weights.
        penalty: of one tensor of logits; added to the loss that logits descend.
        second_order: whether logits descend DARTS' second-order gradient.
        partial: mixtures act on one in `partial` channels.
        searcher: "gradient", which learns logits; "random", which trains each drawn genotype on its own; or
            "evolution", which trains a drawn genotype per step, all on the weights of the supernet.
    """

    relaxation: Relaxation = softmax
    penalty: Callable[[Tensor], Tensor] | None = None
    second_order: bool = False
    partial: int = 1
    searcher: str = "gradient"


def zero_one(logits: Tensor) -> Tensor:
    """Return the loss of Fair DARTS that pushes weights off 0.5 (1911.12126, equation 6)."""
    return -ZERO_ONE_WEIGHT * (logits.sigmoid() - 0.5).square().mean()


def pull_to_start(logits: Tensor) -> Tensor:
    """Return lambda KL(Dirichlet(elu(logits) + 1) | Dirichlet(1)), DrNAS' logits at their start (section 3.2)."""
    now = concentrations(logits)
    pairs = torch.distributions.Dirichlet(now), torch.distributions.Dirichlet(torch.ones_like(now))
    return KL_WEIGHT * torch.distributions.kl_divergence(*pairs).sum()


STRATEGIES = {
    "darts": Strategy(),
    "darts2": Strategy(second_order=True),
    "gdas": Strategy(gumbel),
    "pcdarts": Strategy(partial=PARTIAL),
    "drnas": Strategy(dirichlet, pull_to_start),
    "fair": Strategy(sigmoid, zero_one),
    "sdarts-rs": Strategy(noisy_softmax),
    "random": Strategy(searcher="random"),
    "evolution": Strategy(searcher="evolution"),
}
