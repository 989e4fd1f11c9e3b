"""Hand-made fusions and single modalities, the baselines of a search.

They read the last tap of each stream and run in the same detector, engine and commands as the search. `early` is one
stream that reads both images stacked. A baseline can be widened to the number of parameters of a searched network.

Shapes: taps are maps (B, C, H, W), in a list or one tensor (F, B, C, H, W); the last tap of each stream is its last
BiFPN repeat.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from models.search.fusion_cells.operations import ConcatConv, ECAAttn, ShuffleAttn, Sum


class LastTap(nn.Module):
    """The last tap of the only stream."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, taps: list[Tensor] | Tensor) -> Tensor:
        return taps[-1]


class Mean(Sum):
    """The mean of x and y; the shared head is pretrained on that of both last taps."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, y) / 2


class OpOnLastTaps(nn.Module):
    """One fusion operation on the last taps of the first and the last stream; of one stream, its last tap twice."""

    def __init__(self, op: nn.Module, num_streams: int = 2):
        super().__init__()
        self.num_streams, self.op = num_streams, op

    def forward(self, taps: list[Tensor] | Tensor) -> Tensor:
        return self.op(taps[len(taps) // self.num_streams - 1], taps[-1])


class Widened(nn.Module):
    """A fusion followed by a residual bottleneck, y + W2 relu(norm(W1 y)); W2 starts at zero.

    Args:
        fusion: from a list of taps to one map of `channels`.
        channels: C.
        hidden: channels between the two 1x1 convolutions.
    """

    def __init__(self, fusion: nn.Module, channels: int, hidden: int):
        super().__init__()
        self.fusion = fusion
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.expand = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, taps: list[Tensor] | Tensor) -> Tensor:
        y = self.fusion(taps)
        return y + self.expand(torch.relu(self.norm(self.reduce(y))))


def _op(kind: type[nn.Module], num_streams: int = 2) -> Callable[[int], nn.Module]:
    return lambda channels: OpOnLastTaps(kind(channels), num_streams)


# name -> (streams that it reads, builder of the fusion of one level from its number of channels)
BASELINES = {
    "thermal": (("thermal",), LastTap),
    "rgb": (("rgb",), LastTap),
    "early": (("early",), LastTap),
    "rgb_twice": (("rgb",), _op(ConcatConv, num_streams=1)),  # concat_conv without the second sensor
    "mean": (("thermal", "rgb"), _op(Mean)),
    "sum": (("thermal", "rgb"), _op(Sum)),
    "concat_conv": (("thermal", "rgb"), _op(ConcatConv)),
    "eca_attn": (("thermal", "rgb"), _op(ECAAttn)),
    "shuffle_attn": (("thermal", "rgb"), _op(ShuffleAttn)),
}
FUSIONS = tuple(name for name, (streams, _) in BASELINES.items() if len(streams) == 2)
ONNX = "onnx:"  # how a baseline begins that is the ONNX file of a detector trained elsewhere


def words_of_onnx(baseline: str, modality: str | None) -> str:
    """Return what reports and results call the detector of an ONNX file."""
    return f"{modality} by {Path(baseline.removeprefix(ONNX)).name}"
