"""Measures of what a module costs: multiply-accumulates, parameters, or seconds on this machine."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

MIN_SECONDS = 0.05  # that each operation is timed for; the median counts
Maps = Sequence[Tensor]
Measure = Callable[[nn.Module, Maps], float]


def macs(module: nn.Module, inputs: Maps) -> float:
    """Return the multiply-accumulates of a forward pass, half of what torch counts as operations."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() / 2


def parameters(module: nn.Module, inputs: Maps) -> float:
    """Return the number of parameters."""
    return float(sum(p.numel() for p in module.parameters()))


def latency(module: nn.Module, inputs: Maps) -> float:
    """Return the median seconds of a forward pass here and now."""
    from torch.utils.benchmark import Timer  # looks for a CUDA compiler, and says so, when it is imported

    with torch.no_grad():
        names = {"module": module, "inputs": inputs}
        return Timer("module(*inputs)", globals=names).blocked_autorange(min_run_time=MIN_SECONDS).median


MEASURES: dict[str, Measure] = {"macs": macs, "params": parameters, "latency": latency}
