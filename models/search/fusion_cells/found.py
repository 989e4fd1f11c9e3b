"""Found fusion network of one level: the cell of a genotype, kept edges and operations only.

Differs from the supernet (supernet.py) by two inputs per node and per operation and by a ReLU after the first norm.

Maps are concatenated and convolved to C in the end, sequences concatenated and normed (BM-NAS, 2104.09379).

Shapes: states (B, C, H, W) or (B, C, L); B batch, C channels.
"""

import torch
from torch import Tensor, nn

from models.search.fusion_cells.choices import MAPS
from models.search.fusion_cells.genotype import CellGenotype, StepGenotype, edge_pairs
from models.search.fusion_cells.layers import Features
from models.search.fusion_cells.operations import EDGE_OPS, fusion_op


class FoundNode(nn.Module):
    """One fusion node of a genotype."""

    def __init__(self, step: StepGenotype, features: Features, dropout: float):
        super().__init__()
        self.sources = [(a[1], b[1]) for a, b in edge_pairs(step.inner_edges)]
        self.concat = step.inner_concat
        self.ops = nn.ModuleList(fusion_op(name, features, dropout) for name in step.inner_steps)
        add_node_output(self, features, len(self.concat), dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        states = [x, y]
        for op, (a, b) in zip(self.ops, self.sources, strict=True):
            states.append(op(states[a], states[b]))
        out = torch.cat([states[i] for i in self.concat], dim=1)
        if len(self.concat) > 1:
            out = self.dropout(torch.relu(self.out_bn(self.out_conv(out))))
        return self.bn(out + x)


class FoundFusion(nn.Module):
    """Fusion network of one level: F features to one, as the cell says.

    Args:
        cell: genotype of the level; its indices must fit the number of inputs.
        features: what it fuses.
        dropout: probability inside the nodes.
    """

    def __init__(self, cell: CellGenotype, features: Features, dropout: float = 0.0):
        super().__init__()
        self.sources = [index for _, index in cell.edges]
        self.concat = cell.concat
        self.width = len(cell.concat)  # of the output of sequences, in units of C
        self.reads = {*self.sources, *cell.concat}  # states
        self.edges = nn.ModuleList(EDGE_OPS[name](features.channels) for name, _ in cell.edges)
        self.nodes = nn.ModuleList(FoundNode(step, features, dropout) for step in cell.steps)
        self.maps = features.rank == MAPS
        add_output(self, features, len(cell.concat))

    def forward(self, inputs: list[Tensor] | Tensor) -> Tensor:
        """Fuse as SearchableFusion does."""
        states = list(inputs)
        for i, node in enumerate(self.nodes):
            ports = slice(2 * i, 2 * i + 2)
            states.append(node(*(op(states[s]) for op, s in zip(self.edges[ports], self.sources[ports], strict=True))))
        last = [states[i] for i in self.concat]
        return self.out_conv(torch.cat(last, dim=1)) if self.maps else normed_concat(self.out_norm, last)


def add_node_output(node: nn.Module, features: Features, count: int, dropout: float) -> None:
    """Give a fusion node what makes its output of so many states."""
    if count > 1:
        node.out_conv = features.conv(count)
        node.out_bn = features.norm()
        node.dropout = nn.Dropout(dropout)
    node.bn = features.end_norm()


def add_output(fusion: nn.Module, features: Features, count: int) -> None:
    """Give a fusion network what makes its output of so many states: `out_conv` of maps, `out_norm` of sequences."""
    if features.rank == MAPS:
        fusion.out_conv = features.conv(count)
    else:
        fusion.out_norm = features.end_norm(count)


def normed_concat(norm: nn.Module, states: list[Tensor]) -> Tensor:
    """Concatenate sequences (B, C, L), norm, cut below zero."""
    return torch.relu(norm(torch.cat(states, dim=1)))
