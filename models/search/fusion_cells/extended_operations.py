"""Operations of the richer space fusion_v2 beside the published ones: convolutions of a state, and more fusions.

Fusions after CBAM (1807.06521), BM-NAS (2104.09379: scaled dot-product attention, gated linear
unit) and, for convolutions on edges, DARTS (1806.09055) without norms of their own, since every node ends in one.

Shapes: x, y (B, C, H, W); B batch, C channels, H W spatial.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.search.fusion_cells.layers import SpatialGate, conv_of_concat

REDUCTION = 16  # of CBAM's channel gate
MOST_TOKENS = 12  # rows and columns of keys and values: attention stays linear in the size of x
HIDDEN = 2  # C / HIDDEN channels look at both sensors to tell which one to trust


class SepConv(nn.Module):
    """Depthwise 3x3, then 1x1 convolution of one state."""

    def __init__(self, channels: int, dilation: int = 1):
        super().__init__()
        sizes = {"padding": dilation, "dilation": dilation, "groups": channels}
        self.depthwise = nn.Conv2d(channels, channels, 3, **sizes, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class DilConv(SepConv):
    """The same with a dilation of 2: 5x5 positions."""

    def __init__(self, channels: int):
        super().__init__(channels, dilation=2)


class CBAM(nn.Module):
    """Gate the 2C concatenated channels by a shared perceptron, mix them to C, gate positions (CBAM, section 3)."""

    def __init__(self, channels: int):
        super().__init__()
        wide, hidden = 2 * channels, max(2 * channels // REDUCTION, 1)
        self.perceptron = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, wide))
        self.combine = nn.Conv2d(2 * channels, channels, 1)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        both = torch.cat((x, y), dim=1)
        gates = torch.sigmoid(self.perceptron(both.mean(dim=(2, 3))) + self.perceptron(both.amax(dim=(2, 3))))
        return self.spatial(self.combine(both * gates[:, :, None, None]))


class SpatialAttn(nn.Module):
    """ECAAttn without its channel gate."""

    def __init__(self, channels: int):
        super().__init__()
        self.combine = nn.Conv2d(2 * channels, channels, 1)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.spatial(conv_of_concat(self.combine, [x, y]))


class DotProductAttn(nn.Module):
    """Every position of x looks at all of y by scaled dot products; the result is added to x.

    # BM-NAS: no projections, all positions; here: learned projections, and y pooled to at most 12 x 12 positions.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        size = [min(side, MOST_TOKENS) for side in y.shape[-2:]]
        key, value = self.key_value(F.adaptive_avg_pool2d(y, size)).flatten(2).transpose(1, 2).chunk(2, dim=-1)
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        seen = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        return x + seen.transpose(1, 2).reshape(x.shape)


class GLU(nn.Module):
    """Gated linear unit of the concatenation: two 1x1 convolutions, one gates the other (1612.08083, equation 1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.glu(conv_of_concat(self.conv, [x, y]), dim=1)


class ChannelWeights(nn.Module):
    """Weigh x and y by one learned number per channel each; starts as their sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(2, channels, 1, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.weights[0] * x + self.weights[1] * y


class ReliabilityGate(nn.Module):
    """Weigh x and y per position and per picture by how far each can be trusted, as both together show, then mix.

    Ours: two logits per position, from 3x3 neighbourhoods of both maps, plus two per picture, from their means and
    maxima; a softmax over x and y shares out a weight of 2, so that equal trust is the plain concatenation.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(channels // HIDDEN, 1)
        self.look = nn.Conv2d(2 * channels, hidden, 1)
        self.around = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.local = nn.Conv2d(hidden, 2, 1)
        self.whole = nn.Linear(4 * channels, 2)
        self.combine = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        both = torch.cat((x, y), dim=1)
        local = self.local(torch.relu(self.around(torch.relu(self.look(both)))))
        whole = self.whole(torch.cat((both.mean(dim=(2, 3)), both.amax(dim=(2, 3))), dim=1))
        trust = 2 * torch.softmax(local + whole[:, :, None, None], dim=1)
        return self.combine(torch.cat((x * trust[:, :1], y * trust[:, 1:]), dim=1))
