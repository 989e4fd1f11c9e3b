"""The detector frame: encoders -> [fusion per level] -> [neck] -> [towers] -> head, each bracket one module.

A neck, towers or both may be missing. `FusionDetector` reads the taps of frozen streams (NAS-DSF, figure 2);
searchable, found and hand-made detectors differ by their fusion networks only. `SingleDetector` is the encoder and
BiFPN of one stream with a head, as pretraining trains it. What each bracket can be: models/detection/tables.py.

Shapes: B batch, C channels, F taps of a level (thermal 1..R, then rgb 1..R), H W of the level, L levels.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from models.detection import backbones, layers, streams
from models.detection.backbones import encode
from models.detection.heads.head import Head, Maps
from models.detection.necks import bifpn
from models.detection.necks.bifpn import BiFPN
from models.detection.neighbour_taps import with_neighbours
from models.detection.streams import INPUTS, Normalization, Normalize, Streams
from models.search.parameters import KeepsEncoder, freeze, supernets

# part of a search -> the brackets that it consists of
PARTS = {"fusion": ("fusions",), "neck": ("neck",), "head": ("towers", "head")}


class Detector(nn.Module):
    """The frame; a subclass says how the maps of the levels come from the images (`pyramid`).

    Args:
        head: predicts classes and boxes.
        neck: from L maps to the maps of the head's levels; None: there is none.
        towers: from these to a pair of maps per level, for classes and for boxes; None: there are none.
        encoders: modules by name that come before these.
    """

    head: Any  # a Head, and a module
    neck: nn.Module | None
    towers: nn.Module | None

    def __init__(
        self, head: Head, neck: nn.Module | None = None, towers: nn.Module | None = None, **encoders: nn.Module
    ):
        super().__init__()
        self.frozen_parts: tuple[str, ...] = ()
        brackets: dict[str, Any] = {**encoders, "neck": neck, "towers": towers, "head": head}
        for name, module in brackets.items():  # in the order of their parameters
            self.register_module(name, module)

    def pyramid(self, inputs: dict[str, Any]) -> Maps:
        """Return the map (B, C, H, W) of each level."""
        raise NotImplementedError

    def forward(self, inputs: dict[str, Any]) -> Any:
        """Return the output of the head, of images uint8 (B, 1 or 3, H, W) by modality, or of cached features."""
        return self.head_output(self.pyramid(inputs))

    def head_output(self, maps: Maps) -> Any:
        """Return the output of the head, of the map of each level."""
        maps = maps if self.neck is None else self.neck(maps)
        return self.head(maps) if self.towers is None else self.head(*self.towers(maps))

    def searchables(self) -> dict[str, dict[str, nn.Module]]:
        """Return the supernets by part and place, {"fusion": {"P3": ..., ...}}; {} where nothing is searched."""
        places = {part: supernets(self.places(part)) for part in PARTS}
        return {part: found for part, found in places.items() if found}

    def places(self, part: str) -> dict[str, nn.Module]:
        """Return the modules of a part that a supernet can stand for, by the name of their place."""
        if part == "neck":
            return {} if self.neck is None else {"neck": self.neck}
        return dict(self.towers.named_children()) if part == "head" and self.towers is not None else {}

    def _frozen(self) -> list[nn.Module]:
        modules = [getattr(self, name, None) for part in self.frozen_parts for name in PARTS[part]]
        return [module for module in modules if module is not None]

    def freeze_parts(self, parts: Iterable[str]) -> None:
        """Keep parts as they are: their parameters get no gradients, and their norms no new statistics."""
        self.frozen_parts = (*self.frozen_parts, *parts)
        for module in self._frozen():
            freeze(module)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        for module in self._frozen():
            module.train(False)
        return self

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles one by one."""
        return [module for module in (self.neck, self.towers, self.head) if module is not None]


class FusionDetector(Detector):
    """Streams -> taps -> one fusion network per level -> [neck] -> [towers] -> head.

    Args:
        streams: frozen streams.
        fusions: L modules, each from a list of F maps to one map of the same shape.
        head: see `Detector`.
        normalization: mean and standard deviation in 0..1 per image.
        neighbours: how many other levels' last taps the fusion networks get beside their level's own.
        others: `neck` and `towers` of `Detector`.
    """

    streams: Streams
    fusions: nn.ModuleList
    normalize: Normalize

    def __init__(
        self,
        streams: Streams,
        fusions: list[nn.Module],
        head: Head,
        normalization: Normalization,
        neighbours: int = 0,
        **others: Any,
    ):
        encoders = {"normalize": Normalize(normalization), "streams": streams, "fusions": nn.ModuleList(fusions)}
        super().__init__(head, **others, **encoders)
        self.neighbours = neighbours

    def pyramid(self, inputs: dict[str, Any]) -> Maps:
        """Return the fused map of each level.

        Args:
            inputs: images per modality, uint8 (B, 1 or 3, H, W); or, of a feature cache, "taps", L maps
                (F, B, C, H_l, W_l), or "encoder", three maps (S, B, C_i, H_i, W_i), with "image_size".
        """
        return self.fuse(self.cell_inputs(inputs))

    def cell_inputs(self, inputs: dict[str, Any]) -> list[list[Tensor]] | list[Tensor]:
        """Return the inputs of each level's fusion network: its taps, and those of neighbours where it gets them."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.streams.frozen):
            taps = self.taps(inputs)
            return with_neighbours(taps, len(self.streams.modalities), self.neighbours) if self.neighbours else taps

    def fuse(self, levels: list[list[Tensor]] | list[Tensor]) -> Maps:
        """Return the fused map (B, C, H, W) of each level, of the result of `cell_inputs`."""
        return [fusion(level) for fusion, level in zip(self.fusions, levels, strict=True)]

    def taps(self, inputs: dict[str, Any]) -> list[list[Tensor]] | list[Tensor]:
        """Return the taps of each level, a list or one tensor, of the inputs of `pyramid`."""
        if "taps" in inputs:
            return [_working(level) for level in inputs["taps"]]
        if "encoder" in inputs:
            maps = [list(streams) for streams in zip(*(_working(m) for m in inputs["encoder"]))]
            return self.streams.refine_all(maps, inputs["image_size"])
        return self.streams({m: self.normalize(inputs, m) for m in self.streams.modalities})

    def places(self, part: str) -> dict[str, nn.Module]:
        """Return the modules of a part by place: the fusion networks by level."""
        if part == "fusion":
            return dict(zip(self.streams.level_names, self.fusions, strict=True))
        return super().places(part)

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles one by one."""
        return [*self.streams.children(), *self.fusions, *super().blocks()]

    @torch.no_grad()
    def features(self, images: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the features that a cache keeps of images, uint8 (B, 1 or 3, H, W), channels last in memory.

        Args:
            kind: "taps", L maps (R, B, C, H_l, W_l), or "encoder", three maps (1, B, C_i, H_i, W_i).
        """
        x = self.normalize(images, stream)
        maps = self.streams.encode(stream, x)
        levels = [[m] for m in maps] if kind == "encoder" else self.streams.refine(stream, maps, x.shape[-2:])
        return [torch.stack([tap.movedim(1, -1) for tap in taps]).movedim(-1, 2) for taps in levels]

    # For a feature cache (engine/feature_fill.py).

    feature_kinds = ("taps", "encoder")
    cache_key_modules = (backbones, layers, bifpn, streams)

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
        modules = {part: getattr(self.streams, f"{stream}_{part}") for part in parts}
        return {"normalize": self.normalize.of(stream)} | modules

    def encode_for_cache(self, inputs: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the maps (B, R or 1, H, W, C) of a stream from images by modality: see `features`."""
        return [maps.permute(1, 0, 3, 4, 2).contiguous() for maps in self.features(inputs, stream, kind)]


def _working(features: Tensor) -> Tensor:
    """Return cached features as float32, or as they are where autocast computes in their type."""
    keep = torch.is_autocast_enabled(features.device.type) and features.dtype != torch.float16
    return features if keep else features.float()


class SingleDetector(KeepsEncoder, Detector):
    """One stream's encoder and BiFPN -> [neck] -> [towers] -> head: the detector of pretraining.

    All learns, but for an encoder that is kept.

    Args:
        modality: stream, of INPUTS.
        encoder, fpn: of the stream; their state-dict names are `backbone` and `fpn`.
        head: see `Detector`.
        normalization: mean and standard deviation in 0..1 per image.
    """

    backbone: nn.Module
    fpn: BiFPN
    normalize: Normalize

    def __init__(self, modality: str, encoder: nn.Module, fpn: BiFPN, head: Head, normalization: Normalization):
        normalize = Normalize({name: normalization[name] for name in INPUTS[modality]})
        super().__init__(head, normalize=normalize, backbone=encoder, fpn=fpn)
        self.modality = modality

    def pyramid(self, inputs: dict[str, Any]) -> Maps:
        """Return the last BiFPN repeat's map of each level.

        Args:
            inputs: images per modality, uint8 (B, 1 or 3, H, W); or, of a feature cache, "encoder", three maps
                (1, B, C_i, H_i, W_i), with "image_size".
        """
        if "encoder" in inputs:
            return self.fpn([_working(maps[0]) for maps in inputs["encoder"]], inputs["image_size"])[-1]
        x = self.normalize(inputs, self.modality)
        return self.fpn(encode(self.backbone, x), x.shape[-2:])[-1]

    def encoder_modules(self) -> list[nn.Module]:
        return [self.backbone]

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles one by one."""
        return [self.backbone, self.fpn, *super().blocks()]

    def stream_state(self) -> dict[str, Tensor]:
        """Return encoder and BiFPN under the names of the released stream file."""
        parts = {f"{self.modality}_backbone": self.backbone, f"{self.modality}_fpn": self.fpn}
        return {f"{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()}

    # For a feature cache (engine/feature_fill.py), where the encoder is frozen.

    feature_kinds = ("encoder",)
    cache_key_modules = FusionDetector.cache_key_modules

    @property
    def stream_inputs(self) -> dict[str, tuple[str, ...]]:
        """The modalities that the stream reads."""
        return {self.modality: tuple(INPUTS[self.modality])}

    @property
    def cache_facts(self) -> dict[str, int]:
        """Plain values that decide features beside the modules: none, as of `FusionDetector`."""
        return {}

    def cache_modules(self, stream: str, kind: str) -> dict[str, nn.Module]:
        """Return the modules that the images go through, named as by `FusionDetector`, so that both share records."""
        return {"normalize": self.normalize, "backbone": self.backbone}

    def encode_for_cache(self, inputs: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the encoder maps (B, 1, H_i, W_i, C_i) of images by modality."""
        maps = encode(self.backbone, self.normalize(inputs, stream))
        return [m.permute(0, 2, 3, 1)[:, None].contiguous() for m in maps]
