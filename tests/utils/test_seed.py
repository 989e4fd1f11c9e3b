"""Random generators: seeded together, and taken up where they were."""

import random

import numpy as np
import torch

from utils.checkpoint import load, save
from utils.seed import random_state, seed_everything, set_random_state

CPU = torch.device("cpu")


def draw():
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), np.random.randn()]
    return [*numbers, torch.rand(1).item(), torch.randn(1).item()]


def test_draws_go_on_behind_a_checkpoint(tmp_path):
    seed_everything(3)
    first = draw()
    save(tmp_path / "state.pt", random_state(CPU))  # NumPy has a second normal number waiting
    expected = draw()
    seed_everything(3)
    assert draw() == first
    set_random_state(load(tmp_path / "state.pt"), CPU)
    assert draw() == expected
