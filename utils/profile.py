"""What a detector costs: parameters are utils/reporting.py's, multiply-accumulates are here."""

import torch
from torch import nn

from models.detection.detector import FusionDetector
from models.detection.streams import INPUTS
from models.search.costs import macs


class _OfImages(nn.Module):
    """The detector as a function of its images in order."""

    def __init__(self, model: FusionDetector):
        super().__init__()
        self.model = model
        self.names = tuple(dict.fromkeys(name for m in model.streams.modalities for name in INPUTS[m]))

    def forward(self, *images: torch.Tensor):
        return self.model(dict(zip(self.names, images, strict=True)))


def macs_per_pair(model: FusionDetector, image_size: tuple[int, int]) -> int:
    """Return the multiply-accumulates of convolutions and matrix products for one pair, streams and head included."""
    model.eval()
    images, device = _OfImages(model), next(model.parameters()).device
    black = [
        torch.zeros(1, 3 if n == "rgb" else 1, *image_size, dtype=torch.uint8, device=device) for n in images.names
    ]
    return int(macs(images, black))
