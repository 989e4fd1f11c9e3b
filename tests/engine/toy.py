"""A model, a task and loaders small enough to compute by hand."""

from types import SimpleNamespace

import torch
from torch import nn

from engine.guard import Guard
from engine.step import Compute, optimisation_step

CPU = Compute(torch.device("cpu"))


class Toy(nn.Module):
    """Two weights' layers and a logit; with `norm` the pairs of a batch see each other."""

    def __init__(self, norm: bool = True):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3) if norm else nn.Identity()
        self.alpha_mix = nn.Parameter(torch.tensor([0.1, -0.1]))

    def forward(self, x):
        return self.alpha_mix.softmax(0)[0] * self.norm(self.layer(x)) + x


def task_losses(model, batch):
    return {"loss": (model(batch["x"]) - batch["y"]).square().mean()}


def predict(model, batch):
    return model(batch["x"])


TASK = SimpleNamespace(losses=task_losses, predict=predict, METRIC="score")


class Batches(list):
    """A loader: batches that depend on the epoch, as a seeded sampler makes them."""

    batch_size = 4

    def __init__(self, seed: int, num: int = 3):
        super().__init__([None] * num)
        self.sampler = self
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def __iter__(self):
        for i in range(len(self)):
            draws = torch.Generator().manual_seed(100 * self.seed + 10 * self.epoch + i)
            x = torch.randn(4, 3, generator=draws)
            yield {"x": x, "y": x.flip(1), "image_ids": [f"image{4 * i + j}" for j in range(4)]}


def parts(model):
    return [model.layer.weight, model.layer.bias, *model.norm.parameters()], [model.alpha_mix]


def step(model, batches, optimizer, compute=CPU):
    """One step of its own."""
    return optimisation_step(model, batches, TASK, optimizer, compute, Guard(compute.device))


def validate():
    return {"score": 0.0}
