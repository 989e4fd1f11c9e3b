"""Found fusion network of one level: the cell of a genotype, kept edges and operations only.

Differs from the supernet (cells.py) by two inputs per node and per operation and by a ReLU after the first norm.

Shapes: states (B, C, H, W); B batch, C channels.
"""

import torch
from torch import Tensor, nn

from models.search.genotypes import CellGenotype, StepGenotype
from models.search.operations import EDGE_OPS, FUSION_OPS


class FoundNode(nn.Module):
    """One fusion node of a genotype."""

    def __init__(self, step: StepGenotype, channels: int, dropout: float, rank: int = 4):
        super().__init__()
        self.sources = [index for _, index in step.inner_edges]
        self.concat = step.inner_concat
        self.ops = nn.ModuleList(FUSION_OPS[rank][name](channels) for name in step.inner_steps)
        if len(self.concat) > 1:
            self.out_conv = nn.Conv2d(len(self.concat) * channels, channels, 1)
            self.out_bn = nn.BatchNorm2d(channels)
            self.dropout = nn.Dropout(dropout)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        states = [x, y]
        for k, op in enumerate(self.ops):
            a, b = self.sources[2 * k : 2 * k + 2]
            states.append(op(states[a], states[b]))
        out = torch.cat([states[i] for i in self.concat], dim=1)
        if len(self.concat) > 1:
            out = self.dropout(torch.relu(self.out_bn(self.out_conv(out))))
        return self.bn(out + x)


class FoundFusion(nn.Module):
    """Fusion network of one level: F maps to one, as the cell says.

    Args:
        cell: genotype of the level; its indices must fit the number of inputs.
        channels: C.
        dropout: probability inside the nodes.
    """

    def __init__(self, cell: CellGenotype, channels: int, dropout: float = 0.0, rank: int = 4):
        super().__init__()
        self.sources = [index for _, index in cell.edges]
        self.concat = cell.concat
        self.edges = nn.ModuleList(edge_op(name, channels) for name, _ in cell.edges)
        self.nodes = nn.ModuleList(FoundNode(step, channels, dropout, rank) for step in cell.steps)
        self.out_conv = nn.Conv2d(len(cell.concat) * channels, channels, 1)

    def forward(self, inputs: list[Tensor] | Tensor) -> Tensor:
        """Fuse F maps (B, C, H, W), a list or one tensor (F, B, C, H, W), into one of that shape."""
        states = list(inputs)
        for i, node in enumerate(self.nodes):
            ports = slice(2 * i, 2 * i + 2)
            states.append(node(*(op(states[s]) for op, s in zip(self.edges[ports], self.sources[ports], strict=True))))
        return self.out_conv(torch.cat([states[i] for i in self.concat], dim=1))


def edge_op(name: str, channels: int) -> nn.Module:
    """Build what an edge does with its state."""
    build = EDGE_OPS[name]
    return nn.Identity() if build is None else build(channels)
