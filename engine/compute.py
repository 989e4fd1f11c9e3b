"""Where and how numbers are computed: device, precision, gradient limit, accumulation, compiling, processes."""

import ctypes
import os
import shutil
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.synced_norm import sync_norms
from utils.distributed import SINGLE_PROCESS, Ranks, ranks, ranks_here
from utils.errors import UserError

# Of <malloc.h>: names of switches, and the largest values in bytes that they take.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**31 - 1
LARGEST = 32 * 2**20


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Args:
        device: of model and batches.
        amp: bfloat16 autocast.
        clip_grad: the norm that gradients are cut to.
        accum: batches whose gradients are averaged for one optimiser step.
        compile: torch.compile the model's blocks, each when it is first called.
        ranks: that learn together; each has a share of a batch.
    """

    device: torch.device
    amp: bool = False
    clip_grad: float = float("inf")
    accum: int = 1
    compile: bool = False
    ranks: Ranks = SINGLE_PROCESS

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in its layout.

        Channels last is faster on a CPU (results/memory_format.csv, benchmark at commit 037302a).

        Norms of several ranks learn from the whole batch.
        """
        if self.ranks.count > 1:
            sync_norms(model, self.device)
        for block in model.blocks() if self.compile else ():
            block.compile()  # in place: names in the state dict stay
        return model.to(self.device, memory_format=getattr(model, "memory_format", torch.channels_last))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    def num_steps(self, loader: Sized) -> int:
        """Return the optimiser steps of one pass over the loader."""
        return -(-len(loader) // self.accum)


def pick_compute(
    device: str = "auto", *, clip_grad: float = 0.0, compile: bool = False, deterministic: bool = False, **values: Any
) -> Compute:
    """Return where and how to compute, from what the options of these names say; clip_grad 0: no limit.

    Args:
        values: amp and accum of `Compute`.

    Raises:
        UserError: there is no such device, or no compiler for it.
    """
    name = device
    if name == "auto":
        alone = ranks().count == 1
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() and alone else "cpu"
    if ranks().count > 1:
        name = device_of_rank(name)
    try:
        found = torch.device(name)
        if found.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"{found.type} is not supported")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: expected a device of this machine, found: {reason}") from None
    if compile and found.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise UserError("--compile: expected a C++ compiler (g++, or CXX) for a model on the CPU, found none")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    if found.type == "cpu":
        keep_freed_memory()
        # torch's optimisers and pinning loaders start CUDA where they see a GPU.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return Compute(found, clip_grad=clip_grad or float("inf"), compile=compile, ranks=ranks(), **values)


def device_of_rank(name: str) -> str:
    """Return the device of this process among several: each GPU of a machine has one process.

    Raises:
        UserError: a device that they cannot divide, or more processes than GPUs.
    """
    if name not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: expected auto, cuda or cpu where several processes learn, found {name}")
    here = ranks_here()
    if name == "cuda" and here.count > torch.cuda.device_count():
        expected = f"one process for each of the {torch.cuda.device_count()} GPUs of this machine"
        raise UserError(f"--device {name}: expected {expected}, found {here.count} (torchrun --nproc-per-node)")
    if name == "cpu":
        return name
    torch.cuda.set_device(here.number)
    return f"cuda:{here.number}"


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next step instead of giving it back; other C libraries cannot.

    Without it the next step asks the system for the same pages again, which took a tenth of a search step at published
    sizes. The peak is the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST)
