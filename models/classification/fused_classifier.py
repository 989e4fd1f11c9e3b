"""The fused classifier: frozen encoders, their taps made sequences, one fusion network, one linear layer (BM-NAS).

Searchable, found and hand-made classifiers differ by one argument: the fusion network (2104.09379, section 3).
Pictures and clips come as uint8 and are normalised here.

Shapes: B batch, C channels, L positions, F taps of all encoders, K classes, c channels of a tap.
"""

import math
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.classification import encoders
from models.classification.encoders import clips, hcn, maxout, timm_maps, vgg
from models.search.parameters import freeze, supernets

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY = (0.449,), (0.226,)
LEVELS = ("fusion",)  # a pyramid of one level


class Encoders(nn.Module):
    """One encoder per modality, frozen unless `unfreeze` is called, always in eval mode.

    Args:
        encoders: by modality; each has `channels` by tap and gives its taps by `taps`.
        length: L.
        square: maps are pooled to the square root of L in both directions; else to L along time, or height.
    """

    num_levels, level_names = 1, LEVELS

    def __init__(self, encoders: dict[str, nn.Module], length: int, square: bool):
        super().__init__()
        self.modalities, self.length, self.square = tuple(encoders), length, square
        for modality, encoder in encoders.items():
            setattr(self, f"{modality}_encoder", encoder)
        freeze(self)

    def encoder(self, modality: str) -> nn.Module:
        return getattr(self, f"{modality}_encoder")

    @property
    def tap_names(self) -> tuple[str, ...]:
        return tuple(f"{m}/{name}" for m in self.modalities for name in self.encoder(m).channels)

    @property
    def tap_channels(self) -> tuple[int, ...]:
        return tuple(count for m in self.modalities for count in self.encoder(m).channels.values())

    def unfreeze(self) -> None:
        """Let the parameters learn."""
        self.requires_grad_(True)

    @property
    def frozen(self) -> bool:
        return not any(p.requires_grad for p in self.parameters())

    def train(self, mode: bool = True) -> "Encoders":
        return super().train(False)

    def pooled(self, modality: str, inputs: Tensor) -> list[Tensor]:
        """Return the taps of a modality's inputs after pooling: (B, c, L), of vectors (B, c, 1)."""
        taps = self.encoder(modality).taps(normalised(inputs))
        return [pool(tap, self.length, self.square) for tap in taps]

    def forward(self, inputs: dict[str, Tensor | list[Tensor]]) -> list[Tensor]:
        """Return the F pooled taps, from inputs by modality, or from cached taps in their place."""
        known = [inputs[m] if isinstance(inputs[m], list) else self.pooled(m, inputs[m]) for m in self.modalities]
        return [tap.float() for taps in known for tap in taps]


def normalised(inputs: Tensor) -> Tensor:
    """Turn uint8 pictures (B, 3 or 1, H, W) or clips (B, 3 or 1, T, H, W) into floats; others stay as they are."""
    if inputs.dtype != torch.uint8:
        return inputs
    shape = (1, -1, *[1] * (inputs.dim() - 2))
    mean, std = (inputs.new_tensor(v, dtype=torch.float32) for v in (IMAGENET if inputs.shape[1] == 3 else GREY))
    return (inputs.float() / 255 - mean.view(shape)) / std.view(shape)


def pool(tap: Tensor, length: int, square: bool) -> Tensor:
    """Return a tap as a sequence (B, c, L), without weights; of a vector (B, c) the one position (B, c, 1).

    Args:
        tap: (B, c), (B, c, H, W) or (B, c, T, H, W).
        length: L.
        square: as in `Encoders`; of maps alone, L being a square.
    """
    if tap.dim() == 2:
        return tap[:, :, None]
    if square:
        side = math.isqrt(length)
        return F.adaptive_max_pool2d(tap, side).flatten(2)
    return F.adaptive_max_pool2d(tap.flatten(3), (length, 1)).squeeze(-1)


class Reshape(nn.Module):
    """A pooled tap to (B, C, L): a linear map of channels, batch norm, ReLU; a vector is the same at each position."""

    def __init__(self, num_in: int, channels: int, length: int, dropout: float):
        super().__init__()
        self.length = length
        self.conv, self.bn = nn.Conv1d(num_in, channels, 1), nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tap: Tensor) -> Tensor:
        out = self.dropout(torch.relu(self.bn(self.conv(tap.expand(-1, -1, self.length)))))
        return out


class LateFusion(nn.Module):
    """Hand-made: the last tap of each modality, summed or side by side; of one modality the tap alone.

    Args:
        taps: places of these taps among all.
        concat: side by side.
    """

    def __init__(self, taps: list[int], concat: bool):
        super().__init__()
        self.taps, self.concat = taps, concat

    @property
    def width(self) -> int:
        """How many times C channels go out."""
        return len(self.taps) if self.concat else 1

    def forward(self, features: list[Tensor | None]) -> Tensor:
        last = [features[place] for place in self.taps]
        return torch.cat(last, dim=1) if self.concat else sum(last)


class FusionClassifier(nn.Module):
    """Encoders -> pooled taps -> sequences of one shape -> fusion network -> class scores.

    Args:
        streams: the encoders.
        fusion: from a list of F features (B, C, L) to (B, width x C, L).
        width: see there.
        channels: C.
        num_classes: K.
        dropout: of what makes sequences.
        used: places of the taps that the fusion reads; None: all.
    """

    memory_format = torch.contiguous_format

    def __init__(
        self,
        streams: Encoders,
        fusion: nn.Module,
        width: int,
        channels: int,
        num_classes: int,
        dropout: float,
        used: set[int] | None = None,
    ):
        super().__init__()
        self.streams, self.fusions = streams, nn.ModuleList([fusion])
        counts = enumerate(streams.tap_channels)
        own = {str(n): Reshape(count, channels, streams.length, dropout) for n, count in counts if _is_in(n, used)}
        self.reshape = nn.ModuleDict(own)
        self.head = nn.Linear(width * channels * streams.length, num_classes)

    def forward(self, inputs: dict[str, Any]) -> Tensor:
        """Return class scores (B, K), from inputs by modality or their cached taps."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.streams.frozen):
            taps = self.streams(inputs)
        features = [self.reshape[str(n)](tap) if str(n) in self.reshape else None for n, tap in enumerate(taps)]
        return self.head(self.fusions[0](features).flatten(1))

    def searchables(self) -> dict[str, dict[str, nn.Module]]:
        """Return the supernets by part and place, {"fusion": {"fusion": ...}}; {} where nothing is searched."""
        places = supernets(dict(zip(self.streams.level_names, self.fusions, strict=True)))
        return {"fusion": places} if places else {}

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile takes one by one."""
        return [*self.streams.children(), *self.fusions]

    # For a feature cache (engine/feature_fill.py): one stream per modality.

    feature_kinds = ("pooled",)
    cache_key_modules = (encoders, clips, hcn, maxout, timm_maps, vgg, sys.modules[__name__])

    @property
    def stream_inputs(self) -> dict[str, tuple[str, ...]]:
        """The modalities that each stream reads."""
        return {modality: (modality,) for modality in self.streams.modalities}

    @property
    def cache_facts(self) -> dict[str, int]:
        """Plain values that decide pooled taps beside the encoder."""
        return {"length": self.streams.length, "square": self.streams.square}

    def cache_modules(self, stream: str, kind: str) -> dict[str, nn.Module]:
        """Return the modules that a modality's inputs go through."""
        return {"encoder": self.streams.encoder(stream)}

    def encode_for_cache(self, inputs: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the pooled taps (B, c, L or 1) of a modality, from inputs by modality."""
        return self.streams.pooled(stream, inputs[stream])


def _is_in(place: int, places: set[int] | None) -> bool:
    return places is None or place in places
