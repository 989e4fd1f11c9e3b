"""Every random draw comes from the seed; a run that goes on takes up its generators where they were."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict:
    """Return the state of every generator of this process as tensors and plain values."""
    python, numpy = random.getstate(), np.random.get_state()
    state = {"python": list(python[1]), "python_next": python[2], "torch": torch.get_rng_state()}
    state |= {"numpy": numpy[1].tolist(), "numpy_rest": list(numpy[2:])}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state_all()
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict, device: torch.device) -> None:
    """Take up what `random_state` returned."""
    random.setstate((random.getstate()[0], tuple(state["python"]), state["python_next"]))
    np.random.set_state(("MT19937", state["numpy"], *state["numpy_rest"]))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state_all(state["cuda"])
    elif device.type == "mps":
        torch.mps.set_rng_state(state["mps"])
