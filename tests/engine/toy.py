"""A model, a task and loaders small enough to compute by hand."""

from types import SimpleNamespace

import torch
from torch import nn

from engine.compute import Compute
from engine.nonfinite import Guard
from engine.step import Session, optimisation_step
from utils.distributed import SINGLE_PROCESS

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


def task_losses(model, batch, ranks=SINGLE_PROCESS):
    error = (model(batch["x"]) - batch["y"]).square()
    return {"loss": error.sum() * ranks.count / ranks.all_reduce_sum(torch.tensor(error.numel()))}


def predict(model, batch):
    return model(batch["x"])


TASK = SimpleNamespace(losses=task_losses, predict=predict, metric="score", logged=())


class Batches(list):
    """A loader: batches that depend on the epoch, as a seeded sampler makes them."""

    batch_size = 4

    def __init__(self, seed: int, num: int = 3):
        super().__init__([None] * num)
        self.seed, self.epoch = seed, 0
        self.start = self.place = 0

    def set_epoch(self, epoch: int):
        self.epoch = epoch
        self.start = self.place = 0

    def state_dict(self):
        return {"epoch": self.epoch, "place": self.place}

    def load_state_dict(self, state):
        self.epoch, self.start = state["epoch"], state["place"]
        self.place = self.start

    def __iter__(self):
        first, self.start = self.start, 0
        for i in range(first, len(self)):
            self.place = i + 1
            draws = torch.Generator().manual_seed(100 * self.seed + 10 * self.epoch + i)
            x = torch.randn(4, 3, generator=draws)
            names = [f"image{4 * i + j}" for j in range(4)]
            yield {"x": x, "y": x.flip(1), "image_ids": names, "file_names": names}
        self.place = 0


def parts(model):
    return [model.layer.weight, model.layer.bias, *model.norm.parameters()], [model.alpha_mix]


def session_of(model, task=TASK, compute=CPU):
    return Session(model, task, compute, Guard(compute.device))


def step(model, batches, optimizer, compute=CPU):
    """One step of its own."""
    optimisation_step(session_of(model, compute=compute), batches, optimizer)


def validate():
    return {"score": 0.0}
