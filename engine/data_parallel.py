"""The model as several ranks train it: torch's DistributedDataParallel, once for each set of parameters that learns.

Weights and logits of a search learn in turn, so each side has a replica of its own around the one model.
"""

import inspect
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# Whether each step sends the first rank's buffers to the others: its name up to some release, and after it.
OF_BUFFERS = "broadcast_buffers"
if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters:
    OF_BUFFERS = "forward_sync_buffers"


class _Beside(nn.Module):
    """A model, and a parameter that never learns: where all do, torch warns that looking for such ones takes time."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.idle = model, nn.Parameter(torch.zeros((), device=next(model.parameters()).device))

    def forward(self, *inputs: Any) -> Any:
        return self.model(*inputs)


class Replica(DistributedDataParallel):
    """A model whose gradients are averaged over the ranks; its attributes are the model's own."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":  # not there yet
                raise
            return getattr(self.module.model, name)


def make_replica(model: nn.Module, parameters: list[nn.Parameter]) -> Replica:
    """Return the model with the gradients of these parameters, and only those, averaged over the ranks."""
    ids = set(map(id, parameters))
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
    for parameter in frozen:
        parameter.requires_grad_(False)
    # 1x1 kernels have the same layout with other strides, too.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # Not all of them run in each step: genotypes are drawn. Running statistics are the same on all ranks.
    replica = Replica(_Beside(model), find_unused_parameters=True, **{OF_BUFFERS: False})
    for parameter in frozen:
        parameter.requires_grad_(True)
    return replica
