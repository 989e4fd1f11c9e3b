"""Every random draw comes from the seed; a run that goes on takes up its generators where they were."""

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from utils.distributed import Ranks


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict:
    """Return the state of every generator of this process as tensors and plain values; of GPUs that of the device."""
    python, numpy = random.getstate(), np.random.get_state()
    state = {"python": list(python[1]), "python_next": python[2]}
    return state | {"numpy": numpy[1].tolist(), "numpy_rest": list(numpy[2:])} | _torch_state(device)


def set_random_state(state: dict, device: torch.device) -> None:
    """Take up what `random_state` returned."""
    random.setstate((random.getstate()[0], tuple(state["python"]), state["python_next"]))
    np.random.set_state(("MT19937", state["numpy"], *state["numpy_rest"]))
    _set_torch_state(state, device)


_common: dict | None = None  # the states of torch's generators for all ranks, while one draws numbers of its own


@contextlib.contextmanager
def per_rank_rng(ranks: Ranks, device: torch.device, *key: object) -> Iterator[None]:
    """Let torch draw numbers of this rank's own inside the block, as dropout needs; behind it all ranks draw alike.

    What all draw alike is what one process would draw. The own draws follow from these, the rank and the key.

    Args:
        key: plain values that tell apart the blocks of a run.
    """
    global _common
    if ranks.count == 1:
        yield
        return
    _common = _torch_state(device)
    rank_key = repr((*key, ranks.number)).encode() + _common["torch"].numpy().tobytes()
    torch.manual_seed(int.from_bytes(hashlib.blake2b(rank_key, digest_size=7).digest(), "big"))
    try:
        yield
    finally:
        _set_torch_state(_common, device)
        _common = None


def shared_rng(draw: Callable[[], Tensor]) -> Tensor:
    """Return a draw that is the same on all ranks, also where each draws its own: of what they share, as logits."""
    global _common
    if _common is None:
        return draw()
    device = torch.device(next((kind for kind in ("cuda", "mps") if kind in _common), "cpu"))
    rank_state = _torch_state(device)
    _set_torch_state(_common, device)
    drawn = draw()
    _common = _torch_state(device)
    _set_torch_state(rank_state, device)
    return drawn


def _torch_state(device: torch.device) -> dict:
    state = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def _set_torch_state(state: dict, device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["mps"])
