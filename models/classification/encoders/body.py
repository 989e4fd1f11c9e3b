"""Encoders of a body, which can start from given weights, and a classifier behind it that starts anew.

Shapes: B batch, C channels, K classes.
"""

from torch import Tensor, nn


class BodyEncoder(nn.Module):
    """Class scores from a vector that the body makes of an input.

    A subclass gives the body's modules (`body`) and its vector (`pooled`).
    """

    classifier: nn.Module

    def body(self) -> list[nn.Module]:
        """Return the modules of the body."""
        raise NotImplementedError

    def pooled(self, inputs: Tensor) -> Tensor:
        """Return the vector (B, C) that the classifier reads."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Return class scores (B, K)."""
        return self.classifier(self.pooled(inputs))
