"""Streams: encoder and BiFPN of each modality, frozen in the search, and what images they read (NAS-DSF, figure 2).

Images come as uint8. They are normalised here with the statistics of the data set, which are saved in the checkpoint.

Shapes: B batch, C channels, R BiFPN repeats, L levels, H W of the level, N channels of a stream's input.
"""

import torch
from torch import Tensor, nn

from models.detection.backbones import create_encoder, encode, encoder_channels
from models.detection.necks.bifpn import BiFPN
from models.search.parameters import freeze

MODALITIES = ("thermal", "rgb")  # the streams of the search, in the order of a level's taps
# stream -> the images that it reads, stacked in this order, and their channels; a grey image is repeated to fill them
INPUTS = {"thermal": {"thermal": 3}, "rgb": {"rgb": 3}, "early": {"rgb": 3, "thermal": 1}}
Normalization = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]


class Normalize(nn.Module):
    """uint8 images to a stream's input: float, zero mean and unit variance per channel, stacked as INPUTS says."""

    def __init__(self, statistics: Normalization):
        super().__init__()
        for name, (mean, std) in statistics.items():
            self.register_buffer(f"{name}_mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
            self.register_buffer(f"{name}_std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, images: dict[str, Tensor], stream: str) -> Tensor:
        """Args: images uint8 (B, 1 or 3, H, W). Returns float32 (B, N, H, W), channels last in memory."""
        parts = [self._normalized(images[name], name, channels) for name, channels in INPUTS[stream].items()]
        return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last)

    def _normalized(self, image: Tensor, name: str, channels: int) -> Tensor:
        mean, std = getattr(self, f"{name}_mean")[:, :channels], getattr(self, f"{name}_std")[:, :channels]
        return (image.float() - mean) / std


class Streams(nn.Module):
    """Encoder and BiFPN of each modality; state-dict names are those of the released files.

    Parameters are frozen unless `unfreeze` is called. Streams are always in eval mode, so that norms keep the
    statistics of pretraining.

    Args:
        backbone: timm encoder.
        channels, repeats, num_levels: of the BiFPN.
        modalities: which streams, of INPUTS.
    """

    def __init__(
        self, backbone: str, channels: int, repeats: int, num_levels: int, modalities: tuple[str, ...] = MODALITIES
    ):
        super().__init__()
        self.channels, self.repeats, self.num_levels, self.modalities = channels, repeats, num_levels, modalities
        for modality in modalities:
            encoder = create_encoder(backbone, in_channels=input_channels(modality))
            setattr(self, f"{modality}_backbone", encoder)
            setattr(self, f"{modality}_fpn", BiFPN(encoder_channels(encoder), channels, repeats, num_levels))
        freeze(self)

    @property
    def tap_names(self) -> tuple[str, ...]:
        return tuple(f"{m}/bifpn{r + 1}" for m in self.modalities for r in range(self.repeats))

    @property
    def level_names(self) -> tuple[str, ...]:
        return tuple(f"P{3 + level}" for level in range(self.num_levels))

    def unfreeze(self) -> None:
        """Make the parameters trainable."""
        self.requires_grad_(True)

    @property
    def frozen(self) -> bool:
        return not any(p.requires_grad for p in self.parameters())

    def train(self, mode: bool = True) -> "Streams":
        return super().train(False)

    def encode(self, stream: str, x: Tensor) -> list[Tensor]:
        """Return the three encoder maps (B, C_i, H_i, W_i) of a stream's input, float (B, N, H, W)."""
        return encode(getattr(self, f"{stream}_backbone"), x)

    def refine(self, stream: str, maps: list[Tensor], image_size: tuple[int, int]) -> list[list[Tensor]]:
        """Return L lists of R taps (B, C, H_l, W_l) from a stream's encoder maps."""
        repeats = getattr(self, f"{stream}_fpn")(maps, image_size)
        return [list(level) for level in zip(*repeats, strict=True)]

    def forward(self, inputs: dict[str, Tensor]) -> list[list[Tensor]]:
        """Return the taps: L lists of R maps (B, C, H, W) per stream, from float (B, N, H, W) inputs."""
        return self.refine_all([self.encode(m, inputs[m]) for m in self.modalities], _size(next(iter(inputs.values()))))

    def refine_all(self, maps: list[list[Tensor]], image_size: tuple[int, int]) -> list[list[Tensor]]:
        """Return the taps from the encoder maps of every stream."""
        taps = [self.refine(m, x, image_size) for m, x in zip(self.modalities, maps, strict=True)]
        return [[tap for stream in level for tap in stream] for level in zip(*taps)]

    def features(self, stream: str, x: Tensor, kind: str) -> list[Tensor]:
        """Return the features that a cache keeps of a stream's input (B, N, H, W), channels last in memory.

        Args:
            kind: "taps", L maps (R, B, C, H_l, W_l), or "encoder", three maps (1, B, C_i, H_i, W_i).
        """
        maps = self.encode(stream, x)
        levels = [[m] for m in maps] if kind == "encoder" else self.refine(stream, maps, _size(x))
        return [torch.stack([tap.movedim(1, -1) for tap in taps]).movedim(-1, 2) for taps in levels]


def input_channels(modality: str) -> int:
    """Return the channels N of a stream's input."""
    return sum(INPUTS[modality].values())


def _size(images: Tensor) -> tuple[int, int]:
    height, width = images.shape[-2:]
    return height, width
