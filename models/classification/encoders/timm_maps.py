"""Any timm encoder in place of VGG-19: its four deepest maps are the taps.

Shapes: B batch, C channels, K classes.
"""

import timm
import torch
from torch import Tensor, nn

from models.classification.encoders.body import BodyEncoder
from models.classification.encoders.statistics import IMAGENET, Statistics
from models.encoder_weights import load_encoder, names_in_timm, statistics_in_timm
from utils.errors import UserError

NUM_TAPS = 4
PROBE = 256, 160  # pixels of a poster


class TimmEncoder(BodyEncoder):
    """Four maps of an image, and class scores of the mean of the last.

    Args:
        name: of a timm model with feature maps.
        num_classes: K.
        imagenet: start from timm's ImageNet weights, from its cache or from the network.

    Raises:
        UserError: timm has no such encoder, or it has fewer maps.
    """

    statistics: Statistics = IMAGENET

    def __init__(self, name: str, num_classes: int, imagenet: bool = False):
        super().__init__()
        try:
            with torch.device("meta"):
                count = len(timm.create_model(name, features_only=True).feature_info)
            indices = tuple(range(count - NUM_TAPS, count))
            self.features = timm.create_model(name, imagenet, features_only=True, out_indices=indices)
            counts = self.features.feature_info.channels()
            with torch.no_grad():
                maps = self.features.eval()(torch.zeros(1, 3, *PROBE))
            assert all(m.dim() == 4 and m.shape[1] == c for m, c in zip(maps, counts, strict=True))
        except (RuntimeError, ValueError, OSError, AssertionError) as error:
            reason = (str(error).splitlines() or ["other shapes"])[0]
            expected = "expected vgg19 or a timm encoder with four maps"
            raise UserError(f"--backbone {name}: {expected}, found: {reason}") from None
        self.name = name
        self.features.train()
        self.channels = {f"stage{n + 1}": channels for n, channels in enumerate(counts)}
        self.classifier = nn.Linear(counts[-1], num_classes)

    def load_start(self, state: dict, source: str, modality: str) -> list[str]:
        """Load the features from a file; returns the names in it that are not read. See `encoder_weights`."""
        return load_encoder(self.features, state, source, modality=modality, whole=names_in_timm(self.name))

    def use_pretrained_statistics(self) -> None:
        """Normalise pictures as those that timm's weights were trained on."""
        self.statistics = statistics_in_timm(self.name)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return (B, C_i, h, w) four times, of normalised images (B, 3, H, W)."""
        return self.features(images)

    def body(self) -> list[nn.Module]:
        return [self.features]

    def pooled(self, images: Tensor) -> Tensor:
        """Return the mean of the last map (B, C), of normalised images (B, 3, H, W)."""
        return self.taps(images)[-1].mean(dim=(2, 3))
