"""Relaxations: functions from architecture logits to the weights of a mixture (DARTS, 1806.09055, equation 2).

Shapes: logits and weights (..., E, O); E edges or steps, O operations. Each row is relaxed alone.
"""

from torch import Tensor


def softmax(logits: Tensor) -> Tensor:
    """Return the softmax of each row: the relaxation of DARTS."""
    return logits.softmax(dim=-1)
