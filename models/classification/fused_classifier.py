"""The fused classifier: frozen encoders, their taps as sequences, one fusion network, one linear layer (BM-NAS).

Searchable, found and hand-made classifiers differ by the fusion network only (2104.09379, section 3). Pictures and
clips come as uint8 and are normalised here, with the statistics of the encoder that reads them.

Shapes: B batch, C channels, L positions, F taps of all encoders, K classes, c channels of a tap.
"""

import math
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.classification import encoders
from models.classification.encoders import body, clips, hcn, maxout, statistics, timm_maps, vgg
from models.classification.encoders.statistics import Statistics
from models.search.parameters import FrozenEncoders, KeepsEncoder, freeze, supernets

LEVELS = ("fusion",)  # a pyramid of one level


class Encoders(FrozenEncoders):
    """One encoder per modality.

    Args:
        encoders: by modality; each has the `channels` of its taps by name, `taps`, and the `statistics` of its inputs.
        length: L.
        square: maps are pooled to the square root of L in both directions; else to L along time, or height.
    """

    num_levels, level_names = 1, LEVELS

    def __init__(self, encoders: dict[str, nn.Module], length: int, square: bool):
        super().__init__()
        self.modalities, self.length, self.square = tuple(encoders), length, square
        for modality, encoder in encoders.items():
            setattr(self, f"{modality}_encoder", encoder)
        self.tap_channels = {f"{m}/{name}": n for m, e in encoders.items() for name, n in e.channels.items()}
        self.tap_names = tuple(self.tap_channels)
        freeze(self)

    def encoder(self, modality: str) -> nn.Module:
        return getattr(self, f"{modality}_encoder")

    def maps(self, modality: str, inputs: Tensor) -> list[Tensor]:
        """Return the taps of a modality's inputs as the encoder has them: (B, c), (B, c, H, W) or (B, c, T, H, W)."""
        encoder = self.encoder(modality)
        return encoder.taps(normalised(inputs, encoder.statistics))

    def pooled(self, modality: str, inputs: Tensor) -> list[Tensor]:
        """Return the taps of a modality's inputs after pooling: (B, c, L), or (B, c, 1) for vectors."""
        return [pool(tap, self.length, self.square) for tap in self.maps(modality, inputs)]

    def forward(self, inputs: dict[str, Tensor | list[Tensor]]) -> list[Tensor]:
        """Return the F pooled taps, from inputs by modality, or from cached taps in their place."""
        pooled = [inputs[m] if isinstance(inputs[m], list) else self.pooled(m, inputs[m]) for m in self.modalities]
        return [tap.float() for taps in pooled for tap in taps]


def normalised(inputs: Tensor, statistics: Statistics | None) -> Tensor:
    """Return uint8 pictures (B, N, H, W) or clips (B, N, T, H, W) as normalised floats; other inputs as they are.

    Args:
        statistics: mean and standard deviation of the N channels in 0..1; None: the inputs are never pictures.
    """
    if statistics is None or inputs.dtype != torch.uint8:
        return inputs
    shape = (1, -1, *[1] * (inputs.dim() - 2))
    mean, std = (inputs.new_tensor(values, dtype=torch.float32) for values in statistics)
    return (inputs.float() / 255 - mean.view(shape)) / std.view(shape)


def pool(tap: Tensor, length: int, square: bool) -> Tensor:
    """Return a tap as a sequence (B, c, L), without weights; of a vector (B, c) the one position (B, c, 1).

    Args:
        tap: (B, c), (B, c, H, W) or (B, c, T, H, W).
        length: L.
        square: as in `Encoders`; for maps (B, c, H, W), where L is a square.
    """
    if tap.dim() == 2:
        return tap[:, :, None]
    if square:
        side = math.isqrt(length)
        return F.adaptive_max_pool2d(tap, side).flatten(2)
    return F.adaptive_max_pool2d(tap.flatten(3), (length, 1)).squeeze(-1)


class Reshape(nn.Module):
    """A pooled tap to (B, C, L): 1x1 convolution, batch norm, ReLU; a vector is repeated over the positions."""

    def __init__(self, num_in: int, channels: int, length: int, dropout: float):
        super().__init__()
        self.length = length
        self.conv, self.bn = nn.Conv1d(num_in, channels, 1), nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tap: Tensor) -> Tensor:
        return self.dropout(torch.relu(self.bn(self.conv(tap.expand(-1, -1, self.length)))))


class LateFusion(nn.Module):
    """Hand-made: the last tap of each modality, summed or concatenated; of one modality, the tap itself.

    Args:
        taps: places of these taps among all.
        concat: concatenate the channels.
    """

    def __init__(self, taps: list[int], concat: bool):
        super().__init__()
        self.taps, self.concat = taps, concat
        self.width, self.reads = len(taps) if concat else 1, set(taps)  # as of FoundFusion

    def forward(self, features: list[Tensor | None]) -> Tensor:
        last = [features[place] for place in self.taps]
        return torch.cat(last, dim=1) if self.concat else sum(last)


class FusionClassifier(nn.Module):
    """Encoders -> pooled taps -> sequences of one shape -> fusion network -> class scores.

    Args:
        streams: the encoders.
        fusion: from a list of F features (B, C, L) to (B, width x C, L); `reads` has the places of the taps it reads.
        channels: C.
        num_classes: K.
        dropout: of the layers that make sequences.
    """

    memory_format = torch.contiguous_format

    def __init__(self, streams: Encoders, fusion: nn.Module, channels: int, num_classes: int, dropout: float):
        super().__init__()
        self.streams, self.fusions = streams, nn.ModuleList([fusion])
        self.reshape = nn.ModuleDict()
        for n, count in enumerate(streams.tap_channels.values()):
            if n in fusion.reads:
                self.reshape[str(n)] = Reshape(count, channels, streams.length, dropout)
        self.head = nn.Linear(fusion.width * channels * streams.length, num_classes)

    def forward(self, inputs: dict[str, Any]) -> Tensor:
        """Return class scores (B, K), from inputs by modality or their cached taps."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.streams.frozen):
            taps = self.streams(inputs)
        features = [self.reshape[str(n)](tap) if str(n) in self.reshape else None for n, tap in enumerate(taps)]
        return self.head(self.fusions[0](features).flatten(1))

    def freeze_parts(self, parts: Iterable[str]) -> None:
        """Keep parts as they are: their parameters get no gradients. Beside the fusion there is the head alone."""
        for part in parts:
            freeze({"head": self.head}[part])

    def searchables(self) -> dict[str, dict[str, nn.Module]]:
        """Return the supernets by part and place, {"fusion": {"fusion": ...}}; {} where nothing is searched."""
        places = supernets(dict(zip(self.streams.level_names, self.fusions, strict=True)))
        return {"fusion": places} if places else {}

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles one by one."""
        return [*self.streams.children(), *self.fusions]

    # For a feature cache (engine/feature_fill.py): one stream per modality.

    feature_kinds = ("pooled",)
    cache_key_modules = (encoders, body, clips, hcn, maxout, statistics, timm_maps, vgg, sys.modules[__name__])

    @property
    def stream_inputs(self) -> dict[str, tuple[str, ...]]:
        """The modalities that each stream reads."""
        return {modality: (modality,) for modality in self.streams.modalities}

    @property
    def cache_facts(self) -> dict[str, Any]:
        """Plain values that decide pooled taps beside the encoder."""
        statistics = {modality: self.streams.encoder(modality).statistics for modality in self.streams.modalities}
        return {"length": self.streams.length, "square": self.streams.square, "statistics": statistics}

    def cache_modules(self, stream: str, kind: str) -> dict[str, nn.Module]:
        """Return the modules that a modality's inputs go through: without class scores, which taps do not depend on."""
        encoder = self.streams.encoder(stream)
        return {name: module for name, module in encoder.named_children() if name != "classifier"}

    def encode_for_cache(self, inputs: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the pooled taps (B, c, L or 1) of a modality, from inputs by modality."""
        return self.streams.pooled(stream, inputs[stream])


class SingleClassifier(KeepsEncoder):
    """One modality's encoder with its own class scores: the network of pretraining.

    Where its encoder is kept, it is a `BodyEncoder`: its classifier learns.
    """

    memory_format = torch.contiguous_format

    def __init__(self, modality: str, encoder: nn.Module):
        super().__init__()
        self.modality, self.encoder = modality, encoder

    def forward(self, inputs: dict[str, Any]) -> Tensor:
        """Return class scores (B, K), from inputs by modality, or from the cached vector of the encoder's body."""
        encoder_input = inputs[self.modality]
        if isinstance(encoder_input, list):
            return self.encoder.classifier(encoder_input[0].float())
        return self.encoder(normalised(encoder_input, self.encoder.statistics))

    def encoder_modules(self) -> list[nn.Module]:
        return self.encoder.body()

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles one by one."""
        return [self.encoder]

    # For a feature cache (engine/feature_fill.py), where the encoder is frozen.

    feature_kinds = ("vector",)
    cache_key_modules = FusionClassifier.cache_key_modules

    @property
    def stream_inputs(self) -> dict[str, tuple[str, ...]]:
        """The modality that the encoder reads."""
        return {self.modality: (self.modality,)}

    @property
    def cache_facts(self) -> dict[str, int]:
        """Plain values that decide the vector beside the body: none."""
        return {}

    def cache_modules(self, stream: str, kind: str) -> dict[str, nn.Module]:
        """Return the modules that inputs go through."""
        return {"body": self.streams}

    def encode_for_cache(self, inputs: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the vector (B, c) of the encoder's body, from inputs by modality."""
        return [self.encoder.pooled(normalised(inputs[stream], self.encoder.statistics))]
