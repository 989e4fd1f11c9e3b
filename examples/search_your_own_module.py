"""Search a fusion cell inside a module of your own: which of four feature maps to fuse, and by which operations."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.derive import derive
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.parameters import arch_parameters, weight_parameters


class TwoSensors(nn.Module):  # any module of yours
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1, 8, size, padding="same") for size in (1, 3, 1, 3))
        self.cell = SearchableFusion(CellSpace(num_inputs=4, channels=8))  # four maps (B, 8, H, W) to one
        self.head = nn.Linear(8, 1)

    def forward(self, a, b):
        maps = [conv(x) for conv, x in zip(self.convs, (a, a, b, b))]
        return self.head(self.cell(maps).mean(dim=(2, 3)))


argparse.ArgumentParser(description=__doc__).parse_args()
torch.manual_seed(1)
model = TwoSensors()
optimizers = [torch.optim.Adam(p, lr=0.01) for p in (weight_parameters(model), arch_parameters(model))]
for step in range(200):
    a, b = torch.randn(2, 16, 1, 8, 8)  # your batches: of one part for the weights, of another for the logits
    optimizer = optimizers[step % 2]
    optimizer.zero_grad()
    nn.functional.mse_loss(model(a, b), 8 * (a * b).mean(dim=(2, 3))).backward()
    optimizer.step()
print(derive([model.cell], ("a 1x1", "a 3x3", "b 1x1", "b 3x3"), ("cell",)).words)
