"""VGG-19 (1409.1556) for posters, torchvision's, as BM-NAS reads it (2104.09379, section 4.1).

Shapes: B batch, C channels, K classes.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg19

from models.classification.encoders.body import BodyEncoder
from models.classification.encoders.statistics import IMAGENET, Statistics
from models.encoder_weights import load_encoder

TAPS = {20: "relu4_1", 26: "relu4_4", 33: "relu5_3", 36: "pool5"}  # by place in torchvision's list of layers
CHANNELS = {"relu4_1": 512, "relu4_4": 512, "relu5_3": 512, "pool5": 512}
HIDDEN = 512  # of our classifier; torchvision's has 120 million parameters for 1,000 classes


class PosterEncoder(BodyEncoder):
    """Four maps of an image, and class scores of the mean of the last.

    Args:
        num_classes: K.
        imagenet: start from torchvision's ImageNet weights, from its cache or from the network.
    """

    channels: ClassVar[dict[str, int]] = CHANNELS
    statistics: ClassVar[Statistics] = IMAGENET

    def __init__(self, num_classes: int, imagenet: bool = False):
        super().__init__()
        self.features = vgg19(weights=VGG19_Weights.IMAGENET1K_V1 if imagenet else None).features
        self.classifier = nn.Sequential(
            nn.Linear(512, HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, num_classes)
        )

    def load_start(self, state: dict, source: str, modality: str) -> list[str]:
        """Load the features from a file; returns the names in it that are not read. See `encoder_weights`."""
        with torch.device("meta"):
            whole = list(vgg19().state_dict())
        features = nn.ModuleDict({"features": self.features})
        return load_encoder(features, state, source, modality=modality, whole=[*whole, *self.state_dict()])

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return (B, 512, h, w) four times, of normalised images (B, 3, H, W)."""
        taps, x = [], images
        for place, layer in enumerate(self.features):
            x = layer(x)
            taps += [x] if place in TAPS else []
        return taps

    def body(self) -> list[nn.Module]:
        return [self.features]

    def pooled(self, images: Tensor) -> Tensor:
        """Return the mean of the last map (B, C), of normalised images (B, 3, H, W)."""
        return self.taps(images)[-1].mean(dim=(2, 3))
