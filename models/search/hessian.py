"""The dominant eigenvalue of the Hessian of the logits' loss: a sign of collapse to come (1909.09656, section 4)."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.search.second_order import restore, shift

STEP = 1e-2  # of the finite difference, in logits; the focal loss has no second derivative of its own


def dominant_eigenvalue(
    gradients: Callable[[], list[Tensor]], logits: list[Tensor], iterations: int, generator: torch.Generator
) -> float:
    """Return the eigenvalue of the largest absolute value, by power iteration.

    The Hessian is multiplied by a vector through a central difference of gradients. The logits keep their values.

    Args:
        gradients: returns the gradient of the loss in each of `logits`, at their present values, without noise.
        iterations: number of steps of the power method.
        generator: draws the first vector, on the CPU.
    """
    start = [p.detach().clone() for p in logits]
    vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in start]
    value = 0.0
    for _ in range(iterations):
        scale = 1 / _norm(vector)
        vector = [v * scale for v in vector]
        sides = []
        for step in (STEP, -STEP):
            shift(logits, start, vector, step)
            sides.append(gradients())
        product = [(plus - minus) / (2 * STEP) for plus, minus in zip(*sides, strict=True)]
        value = float(sum((p * v).sum() for p, v in zip(product, vector, strict=True)))
        if _norm(product) == 0:
            break
        vector = product
    restore(logits, start)
    return value


def _norm(vector: list[Tensor]) -> float:
    return float(torch.sqrt(sum(v.square().sum() for v in vector)))
