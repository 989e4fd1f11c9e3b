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


class LinearGLU(nn.Module):
    """Concatenate x and y, a linear map to 2C, batch norm, half of it gated by the other half."""

    def __init__(self, channels: int, length: int, dropout: float = 0.0):
        super().__init__()
        self.conv = nn.Conv1d(2 * channels, 2 * channels, 1)
        self.bn = nn.BatchNorm1d(2 * channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.dropout(F.glu(self.bn(conv_of_concat(self.conv, [x, y])), dim=1))


class ConcatFC(nn.Module):
    """Concatenate x and y, a linear map to C, batch norm, ReLU."""

    def __init__(self, channels: int, length: int, dropout: float = 0.0):
        super().__init__()
        self.conv = nn.Conv1d(2 * channels, channels, 1)
        self.bn = nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.dropout(torch.relu(self.bn(conv_of_concat(self.conv, [x, y]))))
