"""How much memory a training step will take, told by --dry_run before hours are spent on finding out."""

import torch
from torch import Tensor, nn

from engine.compute import Compute
from engine.task import Task

PROBE = 2  # pairs: batch norm learns from no fewer
ADAM = 3  # of the size of what is trained: gradients, and two moments
# Peak of a step in units of what its forward pass keeps. Measured at published sizes, 256 and 512 px: 1.3 by what is
# allocated; on a CPU 1.9 by the growth of the process (results/memory.csv), which does not give back all that is freed.
PEAK, PEAK_CPU = 1.3, 1.9


def memory_estimate(task: Task, model: nn.Module, batch: dict, batchsize: int, compute: Compute) -> dict[str, float]:
    """Estimate the tensors of a training step, from what the losses of a small batch keep for their gradients.

    Not in it: what PyTorch, CUDA and loader processes take by themselves, some hundred MiB to a few GiB.

    Args:
        batch: on the device, of PROBE examples.
        batchsize: of the training.
    Returns:
        "memory_model_mib" (parameters, buffers, gradients, Adam), "memory_per_pair_mib" and "memory_step_mib".
    """
    learned = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    fixed = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())) + ADAM * learned
    peak = PEAK_CPU if compute.device.type == "cpu" else PEAK
    per_pair = peak * kept_for_gradients(task, model, batch, compute) / PROBE
    sizes = {"model": fixed, "per_pair": per_pair, "step": fixed + batchsize * per_pair}
    return {f"memory_{name}_mib": round(size / 2**20, 1) for name, size in sizes.items()}


def kept_for_gradients(task: Task, model: nn.Module, batch: dict, compute: Compute) -> int:
    """Return the bytes that the losses of a batch keep, parameters and buffers aside."""
    of_model = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_model:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    before, was_training = {name: buffer.clone() for name, buffer in model.named_buffers()}, model.training
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), compute.autocast():
        losses = task.losses(model, batch)
    del losses  # held until here, so that no storage's place was taken by another's
    model.train(was_training)
    for name, buffer in model.named_buffers():  # running statistics
        buffer.copy_(before[name])
    return sum(kept.values())
