"""The second-order gradient of the architecture logits, by finite differences (DARTS, 1806.09055).

The first-order gradient is dL_arch/da at the present weights w (equation 6 with xi = 0). The second-order gradient is
computed at the virtual weights w' = w - xi dL_train/dw, and xi (g+ - g-) / (2 eps) is subtracted from it (equations 7
and 8). Here g+ and g- are dL_train/da at w + eps dL_arch/dw' and w - eps dL_arch/dw', and eps = 0.01 / |dL_arch/dw'|.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Losses = Callable[[], dict[str, Tensor]]  # computes the loss dict at the present parameters
Average = Callable[[list[Tensor]], list[Tensor]]  # averages gradients over the ranks that share the batches


def second_order_backward(
    model: nn.Module,
    train_losses: Losses,
    arch_losses: Losses,
    weights: list[nn.Parameter],
    logits: list[nn.Parameter],
    xi: float,
    average: Average = lambda gradients: gradients,
) -> dict[str, Tensor]:
    """Write the second-order gradient into `logits[i].grad`. Parameters and buffers keep their values.

    Args:
        model: has the parameters, and the buffers of the norms.
        train_losses, arch_losses: return the loss dict on a batch of the `train` and of the `arch` part.
        xi: learning rate of the virtual weight step.
        average: averages gradients over the processes that share the batches; by default there is one process.

    Returns:
        The loss dict of `arch_losses` at the virtual weights.
    """
    buffers = [b.clone() for b in model.buffers()]
    start = [w.detach().clone() for w in weights]
    shift(weights, start, average(_gradients(train_losses()["loss"], weights)), -xi)
    losses = arch_losses()
    both = average(_gradients(losses["loss"], weights + logits))
    v, gradient = both[: len(weights)], both[len(weights) :]  # dL_arch/dw' and dL_arch/da
    eps = 0.01 / torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in v]))
    sides = []
    devices = {w.device for w in weights if w.device.type != "cpu"}
    kind = next((device.type for device in devices), "cuda")
    for sign in (1, -1):
        shift(weights, start, v, sign * eps)
        # Both sides need the same dropout mask, since their difference is divided by 2 eps.
        with torch.random.fork_rng(devices, device_type=kind):
            sides.append(average(_gradients(train_losses()["loss"], logits)))
    for logit, g, plus, minus in zip(logits, gradient, *sides, strict=True):
        logit.grad = g - xi * (plus - minus) / (2 * eps)
    restore(weights, start)
    restore(list(model.buffers()), buffers)
    return losses


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


@torch.no_grad()
def shift(weights: list[Tensor], start: list[Tensor], direction: list[Tensor], by: float | Tensor) -> None:
    """Set weights to `start` plus `by` times a direction, in place."""
    for w, w0, d in zip(weights, start, direction, strict=True):
        w.copy_(w0 + by * d)


@torch.no_grad()
def restore(tensors: list[Tensor], values: list[Tensor]) -> None:
    """Copy values into tensors, in place."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
