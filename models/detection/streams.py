"""Streams: encoder and pyramid of each modality, and what images they read (NAS-DSF, figure 2).

`Streams` have a BiFPN and are frozen in the search. `PyramidStreams` have an FPN and may learn along (FAD).

Images come as uint8. They are normalised here with the statistics of the data set, which are saved in the checkpoint.

Shapes: B batch, C channels, R BiFPN repeats, L levels, H W of the level, N channels of a stream's input.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.detection.backbones import create_encoder, encode, encoder_channels
from models.detection.necks.bifpn import BiFPN
from models.detection.necks.fpn import FPN
from models.search.parameters import FrozenEncoders, freeze

MODALITIES = ("thermal", "rgb")  # the streams of the search, in the order of a level's taps
# stream -> the images that it reads, stacked in this order, and their channels; a grey image is repeated to fill them
INPUTS = {"thermal": {"thermal": 3}, "rgb": {"rgb": 3}, "early": {"rgb": 3, "thermal": 1}}
NUM_FPN_LEVELS, EARLY_STRIDE = 5, 4
NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
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

    def of(self, stream: str) -> "Normalize":
        """Return the statistics of a stream's images alone."""
        part = Normalize({})
        for name, values in self.named_buffers():
            if name.rpartition("_")[0] in INPUTS[stream]:
                part.register_buffer(name, values)
        return part

    def _normalized(self, image: Tensor, name: str, channels: int) -> Tensor:
        mean, std = getattr(self, f"{name}_mean")[:, :channels], getattr(self, f"{name}_std")[:, :channels]
        return (image.float() - mean) / std


class Streams(FrozenEncoders):
    """Encoder and BiFPN of each modality; state-dict names are those of the released files.

    Args:
        backbone: timm encoder.
        channels, repeats, num_levels: of the BiFPN.
        modalities: which streams, of INPUTS.
    """

    def __init__(
        self, backbone: str, channels: int, repeats: int, num_levels: int, modalities: tuple[str, ...] = MODALITIES
    ):
        super().__init__()
        self.channels, self.num_levels, self.modalities = channels, num_levels, modalities
        self.tap_names, self.level_names = tap_names(modalities, repeats), level_names(num_levels)
        for modality in modalities:
            encoder = create_encoder(backbone, in_channels=input_channels(modality))
            setattr(self, f"{modality}_backbone", encoder)
            setattr(self, f"{modality}_fpn", self._make_fpn(encoder_channels(encoder), channels, repeats, num_levels))
        freeze(self)

    def _make_fpn(self, encoder_channels: list[int], channels: int, repeats: int, num_levels: int) -> nn.Module:
        return BiFPN(encoder_channels, channels, repeats, num_levels)

    def encode(self, stream: str, x: Tensor) -> list[Tensor]:
        """Return the three encoder maps (B, C_i, H_i, W_i) of a stream's input, float (B, N, H, W)."""
        return encode(getattr(self, f"{stream}_backbone"), x)

    def refine(self, stream: str, maps: list[Tensor], image_size: tuple[int, int]) -> list[list[Tensor]]:
        """Return L lists of R taps (B, C, H_l, W_l) from a stream's encoder maps."""
        repeats = getattr(self, f"{stream}_fpn")(maps, image_size)
        return [list(level) for level in zip(*repeats, strict=True)]

    def forward(self, inputs: dict[str, Tensor]) -> list[list[Tensor]]:
        """Return the taps: L lists of R maps (B, C, H, W) per stream, from float (B, N, H, W) inputs."""
        image_size = next(iter(inputs.values())).shape[-2:]
        return self.refine_all([self.encode(m, inputs[m]) for m in self.modalities], image_size)

    def refine_all(self, maps: list[list[Tensor]], image_size: tuple[int, int]) -> list[list[Tensor]]:
        """Return the taps from the encoder maps of every stream."""
        taps = [self.refine(m, x, image_size) for m, x in zip(self.modalities, maps, strict=True)]
        return [[tap for stream in level for tap in stream] for level in zip(*taps)]


class PyramidStreams(Streams):
    """Encoder and FPN of each modality: one tap per level, P3 to P7.

    Args:
        backbone, channels, modalities: as of `Streams`.
    """

    def __init__(self, backbone: str, channels: int, modalities: tuple[str, ...]):
        super().__init__(backbone, channels, 1, NUM_FPN_LEVELS, modalities)
        self.start = "new"  # where the weights come from, in words
        self.tap_names = tuple(f"{modality}/fpn" for modality in modalities)

    def _make_fpn(self, encoder_channels: list[int], channels: int, repeats: int, num_levels: int) -> nn.Module:
        return FPN(encoder_channels, channels)

    def refine(self, stream: str, maps: list[Tensor], image_size: tuple[int, int]) -> list[list[Tensor]]:
        """Return L lists of one map (B, C, H_l, W_l) from a stream's encoder maps."""
        return [[level] for level in getattr(self, f"{stream}_fpn")(maps)]

    def unfreeze(self) -> None:
        """Make FPN and encoder trainable, but for the encoder's norms and its layers up to stride 4 (FAD, FCOS)."""
        for modality in self.modalities:
            getattr(self, f"{modality}_fpn").requires_grad_(True)
            for parameter in late_weights(getattr(self, f"{modality}_backbone")):
                parameter.requires_grad_(True)


def late_weights(encoder: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of an encoder behind its last map of stride 4, those of norms left out."""
    early = [info["module"] for info in encoder.feature_info.info if info["reduction"] <= EARLY_STRIDE]
    starts = tuple(f"{name}." for module in early for name in (module, module.replace(".", "_")))
    named = list(encoder.named_parameters())
    first = max((place + 1 for place, (name, _) in enumerate(named) if name.startswith(starts)), default=0)
    norms = {id(p) for module in encoder.modules() if isinstance(module, NORMS) for p in module.parameters()}
    return [parameter for _, parameter in named[first:] if id(parameter) not in norms]


def input_channels(modality: str) -> int:
    """Return the channels N of a stream's input."""
    return sum(INPUTS[modality].values())


def images_of(streams: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the images that streams read, each once."""
    return tuple(dict.fromkeys(image for stream in streams for image in INPUTS[stream]))


def tap_names(modalities: tuple[str, ...], repeats: int) -> tuple[str, ...]:
    """Return the names of the taps of each level, MODALITY/bifpnREPEAT."""
    return tuple(f"{m}/bifpn{r + 1}" for m in modalities for r in range(repeats))


def level_names(num_levels: int) -> tuple[str, ...]:
    """Return the names of the pyramid levels, from P3 on."""
    return tuple(f"P{3 + level}" for level in range(num_levels))
