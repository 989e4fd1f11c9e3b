"""The dominant eigenvalue of the Hessian of the logits' loss: a sign of collapse to come (1909.09656, section 4)."""

from collections.abc import Callable

import torch
from torch import Tensor

STEP = 1e-2  # of the finite difference, in logits; the focal loss has no second derivative of its own


def dominant_eigenvalue(
    gradients: Callable[[], list[Tensor]], logits: list[Tensor], iterations: int, generator: torch.Generator
) -> float:
    """Return the eigenvalue of the largest absolute value, by power iteration on Hessian-vector products.

    A product is a central difference of gradients. The logits are left as they were.

    Args:
        gradients: the loss' gradient in each of `logits`, at their present values, without noise.
        iterations: of the power method.
        generator: of the first vector, on the CPU.
    """
    start = [p.detach().clone() for p in logits]
    vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in start]
    value = 0.0
    for _ in range(iterations):
        vector = _scaled(vector, 1 / _norm(vector))
        sides = []
        for sign in (1, -1):
            _put(logits, [p + sign * STEP * v for p, v in zip(start, vector, strict=True)])
            sides.append(gradients())
        product = [(plus - minus) / (2 * STEP) for plus, minus in zip(*sides, strict=True)]
        value = float(sum((p * v).sum() for p, v in zip(product, vector, strict=True)))
        if _norm(product) == 0:
            break
        vector = product
    _put(logits, start)
    return value


def _norm(vector: list[Tensor]) -> float:
    return float(torch.sqrt(sum(v.square().sum() for v in vector)))


def _scaled(vector: list[Tensor], by: float) -> list[Tensor]:
    return [v * by for v in vector]


@torch.no_grad()
def _put(logits: list[Tensor], values: list[Tensor]) -> None:
    for logit, value in zip(logits, values, strict=True):
        logit.copy_(value)
