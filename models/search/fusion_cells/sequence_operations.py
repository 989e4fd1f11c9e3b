"""Fusion operations on sequences of feature vectors (BM-NAS, 2104.09379, section 3.3).

Shapes: x, y (B, C, L); B batch, C channels, L positions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.search.fusion_cells.layers import conv_of_concat

ATTENTION_DROPOUT = 0.1


class ScaleDotAttn(nn.Module):
    """Attention of x's positions to y's, one head, no projections; layer norm over (C, L)."""

    def __init__(self, channels: int, length: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(ATTENTION_DROPOUT)
        self.norm = nn.LayerNorm((channels, length))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        queries, keys = x.transpose(1, 2), y.transpose(1, 2)  # (B, L, C)
        attended = F.scaled_dot_product_attention(queries, keys, keys)
        return self.norm(self.dropout(attended.transpose(1, 2)))


class ConcatFC(nn.Module):
    """Concatenate x and y, a linear map to C, batch norm, ReLU."""

    width = 1  # outputs of the linear map, in units of C

    def __init__(self, channels: int, length: int, dropout: float = 0.0):
        super().__init__()
        self.conv = nn.Conv1d(2 * channels, self.width * channels, 1)
        self.bn = nn.BatchNorm1d(self.width * channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.dropout(self.activate(self.bn(conv_of_concat(self.conv, [x, y]))))

    def activate(self, x: Tensor) -> Tensor:
        return torch.relu(x)


class LinearGLU(ConcatFC):
    """The same with a linear map to 2C, half of which is gated by the other half, in place of the ReLU."""

    width = 2

    def activate(self, x: Tensor) -> Tensor:
        return F.glu(x, dim=1)
