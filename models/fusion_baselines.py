"""Hand-made fusions and single modalities: what every searched network stands beside.

They read the last tap of each stream and run through the same detector, engine and commands as the search.

Shapes: taps are lists of maps (B, C, H, W), the last one of each stream's share being its last BiFPN repeat.
"""

from torch import Tensor, nn

from models.search.operations import FUSION_OPS


class LastTap(nn.Module):
    """The last tap of the only stream there is."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, taps: list[Tensor]) -> Tensor:
        return taps[-1]


class MeanOfLastTaps(nn.Module):
    """The mean of both last taps: what the shared head is pretrained on."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, taps: list[Tensor]) -> Tensor:
        return (taps[len(taps) // 2 - 1] + taps[-1]) / 2


class OpOnLastTaps(nn.Module):
    """One fusion operation on both last taps."""

    def __init__(self, name: str, channels: int):
        super().__init__()
        self.op = FUSION_OPS[4][name](channels)

    def forward(self, taps: list[Tensor]) -> Tensor:
        return self.op(taps[len(taps) // 2 - 1], taps[-1])


def _op(name: str):
    return lambda channels: OpOnLastTaps(name, channels)


# name -> (streams that it needs, builder of the module of one level from its number of channels)
BASELINES = {
    "thermal": (("thermal",), LastTap),
    "rgb": (("rgb",), LastTap),
    "mean": (("thermal", "rgb"), MeanOfLastTaps),
    "sum": (("thermal", "rgb"), _op("Sum")),
    "concat_conv": (("thermal", "rgb"), _op("ConcatConv")),
    "eca_attn": (("thermal", "rgb"), _op("ECAAttn")),
    "shuffle_attn": (("thermal", "rgb"), _op("ShuffleAttn")),
}
