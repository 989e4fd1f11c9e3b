"""A maxout perceptron (1302.4389) on the mean word vector of a text, after GMU (1702.01992) and BM-NAS.

Shapes: B batch, D numbers of a text, K classes.
"""

from typing import ClassVar

from torch import Tensor, nn

PIECES = 5
FIRST, SECOND = 64, 128


class Maxout(nn.Module):
    """The maximum of several linear maps."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.linear = nn.Linear(num_in, num_out * PIECES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (-1, PIECES)).amax(dim=-1)


class TextEncoder(nn.Module):
    """Two maxout layers, both taps, and class scores of the second.

    Args:
        num_classes: K.
        length: D, numbers of a text.
    """

    channels: ClassVar[dict[str, int]] = {"maxout1": FIRST, "maxout2": SECOND}
    statistics: ClassVar[None] = None  # word vectors are no pictures

    def __init__(self, num_classes: int, length: int = 300):
        super().__init__()
        self.first = Maxout(length, FIRST)
        self.between = nn.Sequential(nn.BatchNorm1d(FIRST), nn.Dropout(0.5))
        self.second = Maxout(FIRST, SECOND)
        self.classifier = nn.Sequential(nn.BatchNorm1d(SECOND), nn.Dropout(0.5), nn.Linear(SECOND, num_classes))

    def taps(self, words: Tensor) -> list[Tensor]:
        """Return (B, 64) and (B, 128), of mean word vectors (B, D)."""
        first = self.first(words)
        return [first, self.second(self.between(first))]

    def forward(self, words: Tensor) -> Tensor:
        """Return class scores (B, K)."""
        return self.classifier(self.taps(words)[-1])
