"""The fused detector: frozen streams, their taps, one fusion network per level, one head (NAS-DSF, figure 2).

Searchable, found and hand-made detectors differ by one argument: the fusion networks. `SingleDetector` is one stream
with its own head, as pretraining makes it. Images come as uint8 and are normalised here, with the statistics of the
data set, which travel in the checkpoint.

Shapes: B batch, C channels, F taps of a level (thermal 1..R, then rgb 1..R), H W of the level, L levels, N channels of
a stream's input.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from models.detection import backbones, layers
from models.detection.backbones import create_encoder, encode, encoder_channels
from models.detection.baselines import BASELINES, Widened
from models.detection.heads.efficientdet import DetectionHead, HeadOutput
from models.detection.necks import bifpn
from models.detection.necks.bifpn import BiFPN
from models.detection.neighbour_taps import with_neighbours
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import MAPS
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.layers import Features
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.parameters import freeze, supernets

MODALITIES = ("thermal", "rgb")  # the streams of the search, in the order of a level's taps
# stream -> the images that it reads, stacked in this order, and the channels of each; grey becomes as many equal ones
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
        parts = [self._one(images[name], name, channels) for name, channels in INPUTS[stream].items()]
        return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last)

    def _one(self, image: Tensor, name: str, channels: int) -> Tensor:
        mean, std = getattr(self, f"{name}_mean")[:, :channels], getattr(self, f"{name}_std")[:, :channels]
        return (image.float() - mean) / std


class Streams(nn.Module):
    """Encoder and BiFPN of each modality, frozen unless `unfreeze` is called; names are those of the released files.

    They are always in eval mode: statistics of norms stay those of pretraining.

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
        """Let the parameters learn."""
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
        return self.refine_all([self.encode(m, inputs[m]) for m in self.modalities], _size(inputs))

    def refine_all(self, maps: list[list[Tensor]], image_size: tuple[int, int]) -> list[list[Tensor]]:
        """Return the taps from the encoder maps of every stream."""
        taps = [self.refine(m, own, image_size) for m, own in zip(self.modalities, maps, strict=True)]
        return [[tap for own in level for tap in own] for level in zip(*taps)]

    def features(self, stream: str, x: Tensor, kind: str) -> list[Tensor]:
        """Return what a feature cache keeps of a stream's input (B, N, H, W), channels last in memory.

        Args:
            kind: "taps", L maps (R, B, C, H_l, W_l), or "encoder", three maps (1, B, C_i, H_i, W_i).
        """
        maps = self.encode(stream, x)
        levels = [[m] for m in maps] if kind == "encoder" else self.refine(stream, maps, tuple(x.shape[-2:]))
        return [torch.stack([tap.movedim(1, -1) for tap in taps]).movedim(-1, 2) for taps in levels]


class FusionDetector(nn.Module):
    """Streams -> taps -> one fusion network per level -> head.

    Args:
        streams: frozen streams.
        fusions: L modules, each from a list of F maps to one map of the same shape.
        head: class and box nets.
        normalization: mean and standard deviation in 0..1 per image.
        anchor_scale: side of the smallest anchor in strides.
        neighbours: how many other levels' last taps the fusion networks get beside their level's own.
    """

    def __init__(
        self,
        streams: Streams,
        fusions: list[nn.Module],
        head: DetectionHead,
        normalization: Normalization,
        anchor_scale: float,
        neighbours: int = 0,
    ):
        super().__init__()
        self.neighbours = neighbours
        self.normalize = Normalize(normalization)
        self.streams, self.fusions, self.head = streams, nn.ModuleList(fusions), head
        self.anchor_scale = anchor_scale

    def forward(self, inputs: dict[str, Any]) -> HeadOutput:
        """Detect.

        Args:
            inputs: images per modality, uint8 (B, 1 or 3, H, W); or what a feature cache holds in their place: "taps",
                L maps (F, B, C, H_l, W_l), or "encoder", three maps (S, B, C_i, H_i, W_i), with "image_size".

        Returns:
            Class logits and box deltas per level.
        """
        return self.head(self.fuse(self.cell_inputs(inputs)))

    def cell_inputs(self, inputs: dict[str, Any]) -> list[list[Tensor]] | list[Tensor]:
        """Return what the fusion network of each level reads: its taps, and neighbours' where it gets them."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.streams.frozen):
            taps = self.taps(inputs)
            return with_neighbours(taps, len(self.streams.modalities), self.neighbours) if self.neighbours else taps

    def fuse(self, levels: list[list[Tensor]] | list[Tensor]) -> list[Tensor]:
        """Return the fused map (B, C, H, W) of each level from what `cell_inputs` gives."""
        return [fusion(level) for fusion, level in zip(self.fusions, levels, strict=True)]

    def taps(self, inputs: dict[str, Any]) -> list[list[Tensor]] | list[Tensor]:
        """Return the taps of each level, a list or one tensor, from what `forward` takes."""
        if "taps" in inputs:
            return [_working(level) for level in inputs["taps"]]
        if "encoder" in inputs:
            maps = [list(streams) for streams in zip(*(_working(m) for m in inputs["encoder"]))]
            return self.streams.refine_all(maps, inputs["image_size"])
        return self.streams({m: self.normalize(inputs, m) for m in self.streams.modalities})

    def searchables(self) -> dict[str, dict[str, nn.Module]]:
        """Return the supernets by part and place, {"fusion": {"P3": ..., ...}}; {} where nothing is searched."""
        places = supernets(dict(zip(self.streams.level_names, self.fusions, strict=True)))
        return {"fusion": places} if places else {}

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile takes one by one."""
        return [*self.streams.children(), *self.fusions, self.head]

    @torch.no_grad()
    def features(self, images: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return what a feature cache keeps of images, uint8 (B, 1 or 3, H, W): see `Streams.features`."""
        return self.streams.features(stream, self.normalize(images, stream), kind)

    # For a feature cache (engine/feature_fill.py).

    feature_kinds = ("taps", "encoder")
    cache_key_modules = (backbones, layers, bifpn, sys.modules[__name__])

    @property
    def stream_inputs(self) -> dict[str, tuple[str, ...]]:
        """The modalities that each stream reads."""
        return {stream: tuple(INPUTS[stream]) for stream in self.streams.modalities}

    @property
    def cache_facts(self) -> dict[str, int]:
        """Plain values that decide features beside the modules: none."""
        return {}

    def cache_modules(self, stream: str, kind: str) -> dict[str, nn.Module]:
        """Return the modules that a stream's images go through."""
        parts = ("backbone",) if kind == "encoder" else ("backbone", "fpn")
        return {"normalize": self.normalize} | {part: getattr(self.streams, f"{stream}_{part}") for part in parts}

    def encode_for_cache(self, inputs: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the maps (B, K, H, W, C) of a stream from images by modality; K: see `Streams.features`."""
        return [maps.permute(1, 0, 3, 4, 2).contiguous() for maps in self.features(inputs, stream, kind)]


def _working(features: Tensor) -> Tensor:
    """Give cached features in the type of the computation: float32, or as they are where autocast goes on with them."""
    keep = torch.is_autocast_enabled(features.device.type) and features.dtype != torch.float16  # which is not its type
    return features if keep else features.float()


def _size(inputs: dict[str, Tensor]) -> tuple[int, int]:
    return tuple(next(iter(inputs.values())).shape[-2:])


class SingleDetector(nn.Module):
    """One stream's encoder, BiFPN and head, all trainable: what pretraining trains."""

    def __init__(
        self,
        modality: str,
        encoder: nn.Module,
        fpn: BiFPN,
        head: DetectionHead,
        normalization: Normalization,
        anchor_scale: float,
    ):
        super().__init__()
        self.modality, self.anchor_scale = modality, anchor_scale
        self.normalize = Normalize({name: normalization[name] for name in INPUTS[modality]})
        self.backbone, self.fpn, self.head = encoder, fpn, head

    def forward(self, images: dict[str, Tensor]) -> HeadOutput:
        """Args: images that hold what the stream reads, uint8 (B, 1 or 3, H, W). Returns as FusionDetector."""
        x = self.normalize(images, self.modality)
        return self.head(self.fpn(encode(self.backbone, x), x.shape[-2:])[-1])

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile takes one by one."""
        return [self.backbone, self.fpn, self.head]

    def stream_state(self) -> dict[str, Tensor]:
        """Return encoder and BiFPN under the names of the released stream file."""
        parts = {f"{self.modality}_backbone": self.backbone, f"{self.modality}_fpn": self.fpn}
        return {f"{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()}


def input_channels(modality: str) -> int:
    """Return the channels N of a stream's input."""
    return sum(INPUTS[modality].values())


def searchable_fusions(
    space: CellSpace, num_levels: int, dropout: float, relaxation: str = "softmax", partial: int = 1
) -> list[nn.Module]:
    """Return one supernet per level, each with weights and logits of its own."""
    return [SearchableFusion(space, dropout, relaxation, partial) for _ in range(num_levels)]


def found_fusions(genotype: Genotype, dropout: float) -> list[nn.Module]:
    """Return the fusion network of each level of a genotype."""
    return [FoundFusion(cell, Features(MAPS, genotype.channels), dropout) for cell in genotype.cells]


def baseline_fusions(name: str, channels: int, num_levels: int, widen: int | None = None) -> list[nn.Module]:
    """Return one hand-made fusion per level, followed by a bottleneck of `widen` hidden channels if that is given."""
    fusions = [BASELINES[name][1](channels) for _ in range(num_levels)]
    return fusions if widen is None else [Widened(fusion, channels, widen) for fusion in fusions]
