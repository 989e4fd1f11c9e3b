"""Relaxations: functions from architecture logits to the weights of a mixture.

Softmax of DARTS (1806.09055, equation 2), Gumbel-softmax of GDAS (1910.04465, equation 3), Dirichlet of DrNAS
(2006.10355, section 3), sigmoid of Fair DARTS (1911.12126, equation 3), and the noisy softmax of SDARTS-RS (2002.05283,
section 4). Where a relaxation draws, it does so while the supernet learns, from torch's generator; evaluation and
derivation use the mean of the draws.

Shapes: logits and weights (..., E, O); E edges or steps, O operations. Each row is relaxed alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.seed import shared_rng

HOTTEST, COLDEST = 10.0, 0.1  # temperatures of GDAS, falling linearly
LEAST_NOISE, MOST_NOISE = 0.03, 0.3  # half width of SDARTS-RS' uniform noise, growing linearly


@dataclass(frozen=True)
class Stage:
    """The stage of a search that relaxations depend on.

    Args:
        share: of its epochs that is over, 0..1.
        learning: "weights", "logits", or "" in evaluation and derivation.
    """

    share: float = 0.0
    learning: str = ""


EVALUATION = Stage()
Relaxation = Callable[[Tensor, Stage], Tensor]


def softmax(logits: Tensor, stage: Stage = EVALUATION) -> Tensor:
    """Return the softmax of each row."""
    return logits.softmax(dim=-1)


def gumbel(logits: Tensor, stage: Stage = EVALUATION) -> Tensor:
    """Return one operation per row, drawn: one-hot, with the gradient of the soft form; in evaluation the softmax."""
    if not stage.learning:
        return logits.softmax(dim=-1)
    temperature = HOTTEST + (COLDEST - HOTTEST) * stage.share
    return shared_rng(lambda: F.gumbel_softmax(logits.log_softmax(dim=-1), temperature, hard=True))


def dirichlet(logits: Tensor, stage: Stage = EVALUATION) -> Tensor:
    """Return a draw from Dirichlet(elu(logits) + 1), reparametrised; in evaluation its mean."""
    concentration = concentrations(logits)
    if not stage.learning:
        return concentration / concentration.sum(dim=-1, keepdim=True)
    return shared_rng(torch.distributions.Dirichlet(concentration, validate_args=False).rsample)


def concentrations(logits: Tensor) -> Tensor:
    """Return the concentrations of DrNAS: elu(logits) + 1, kept off 0."""
    return F.elu(logits) + 1 + 1e-6


def sigmoid(logits: Tensor, stage: Stage = EVALUATION) -> Tensor:
    """Return the sigmoid of each logit: operations do not compete."""
    return logits.sigmoid()


def noisy_softmax(logits: Tensor, stage: Stage = EVALUATION) -> Tensor:
    """Return the softmax; while weights learn, with uniform noise that grows over the search, cut to 0..1."""
    weights = logits.softmax(dim=-1)
    if stage.learning != "weights":
        return weights
    width = LEAST_NOISE + (MOST_NOISE - LEAST_NOISE) * stage.share
    noise = shared_rng(lambda: torch.empty_like(weights).uniform_(-width, width))
    noisy = (weights + noise).clamp(min=1e-6, max=1)
    return noisy / noisy.sum(dim=-1, keepdim=True)


RELAXATIONS: dict[str, Relaxation] = {f.__name__: f for f in (softmax, gumbel, dirichlet, sigmoid, noisy_softmax)}
