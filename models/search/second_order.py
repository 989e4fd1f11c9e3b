"""The gradient of the architecture logits: first order, or second order by finite differences (DARTS, 1806.09055).

First order takes dL_arch/da at the weights as they are (equation 6 with xi = 0). Second order takes it at
w' = w - xi dL_train/dw and subtracts xi (g+ - g-) / (2 eps) (equations 7 and 8), with eps = 0.01 / |dL_arch/dw'|.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Losses = Callable[[], dict[str, Tensor]]  # computes a loss dict at the model's present parameters
Average = Callable[[list[Tensor]], list[Tensor]]  # of the gradients of all ranks that share the batches


def second_order_backward(
    model: nn.Module,
    train_losses: Losses,
    arch_losses: Losses,
    weights: list[nn.Parameter],
    logits: list[nn.Parameter],
    xi: float,
    average: Average = lambda gradients: gradients,
) -> dict[str, Tensor]:
    """Put the second-order gradient into `logits[i].grad`; parameters and buffers are left as they were.

    Args:
        model: owner of the parameters and of the norms' buffers.
        train_losses, arch_losses: the loss dict on a batch of the `train` and of the `arch` part.
        xi: learning rate of the virtual weight step.
        average: gives the gradients on the whole batches; default: there is one process.

    Returns:
        The loss dict of `arch_losses` at the virtual weights.
    """
    buffers = [b.clone() for b in model.buffers()]
    start = [w.detach().clone() for w in weights]
    _shift(weights, start, average(_gradients(train_losses()["loss"], weights)), -xi)
    losses = arch_losses()
    both = average(_gradients(losses["loss"], weights + logits))
    v, gradient = both[: len(weights)], both[len(weights) :]
    eps = 0.01 / torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in v]))
    sides = []
    devices = {w.device for w in weights if w.device.type != "cpu"}
    kind = next((device.type for device in devices), "cuda")
    for sign in (1, -1):
        _shift(weights, start, v, sign * eps)
        # Both sides have the same dropout mask, as their difference is divided by 2 eps.
        with torch.random.fork_rng(devices, device_type=kind):
            sides.append(average(_gradients(train_losses()["loss"], logits)))
    for logit, g, plus, minus in zip(logits, gradient, *sides, strict=True):
        logit.grad = g - xi * (plus - minus) / (2 * eps)
    _restore(weights, start)
    _restore(list(model.buffers()), buffers)
    return losses


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


@torch.no_grad()
def _shift(weights: list[nn.Parameter], start: list[Tensor], direction: list[Tensor], by: float | Tensor) -> None:
    for w, w0, d in zip(weights, start, direction, strict=True):
        w.copy_(w0 + by * d)


@torch.no_grad()
def _restore(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
