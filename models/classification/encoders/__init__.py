"""Encoders of single modalities for classification: each has taps, from shallow to deep, and class scores.

A builder takes the name of a backbone, which encoders of pictures and clips read, the number of classes, and whether to
start from ImageNet weights; one of vectors may take their length as well.
"""

from collections.abc import Callable, Collection
from functools import partial

from torch import nn

from models.classification.encoders.clips import FLAT, InflatedResNet, ResNeXt101
from models.classification.encoders.hcn import SkeletonEncoder
from models.classification.encoders.maxout import TextEncoder
from models.classification.encoders.timm_maps import TimmEncoder
from models.classification.encoders.vgg import PosterEncoder
from models.encoder_weights import load_encoder
from utils.errors import UserError

Build = Callable[..., nn.Module]
DEPTHS = {"resnext101": (3, 4, 23, 3), "resnext50": (3, 4, 6, 3), "resnext26": (2, 2, 2, 2)}


def poster(name: str, num_classes: int, imagenet: bool) -> nn.Module:
    return PosterEncoder(num_classes, imagenet) if name == "vgg19" else TimmEncoder(name, num_classes, imagenet)


def text(name: str, num_classes: int, imagenet: bool, length: int = 300) -> nn.Module:
    return TextEncoder(num_classes, length)


def skeleton(name: str, num_classes: int, imagenet: bool) -> nn.Module:
    return SkeletonEncoder(num_classes)


def inflated(name: str, num_classes: int, imagenet: bool) -> nn.Module:
    """An inflated ResNet; UserError where torchvision has none of that name."""
    return InflatedResNet(num_classes, imagenet, checked(name, FLAT))


def resnext(channels: int, name: str, num_classes: int, imagenet: bool) -> nn.Module:
    """A 3-D ResNeXt of clips of `channels` channels; there are no ImageNet weights of it."""
    return ResNeXt101(num_classes, channels, DEPTHS[checked(name, DEPTHS)])


def checked(name: str, names: Collection[str]) -> str:
    """Return the name of a backbone; UserError where it is not one of `names`."""
    if name not in names:
        raise UserError(f"--backbone: expected one of {', '.join(names)}, found {name}")
    return name


def load_start(encoder: nn.Module, state: dict, source: str, modality: str) -> list[str]:
    """Load an encoder's start weights from a file's tensors; its classifier stays new.

    Returns:
        The names in the file that are not read, as they belong to the rest of its network.

    Raises:
        UserError: as `encoder_weights.load_encoder`.
    """
    if hasattr(encoder, "load_start"):
        return encoder.load_start(state, source, modality)
    parts = nn.ModuleDict({name: part for name, part in encoder.named_children() if name != "classifier"})
    return load_encoder(parts, state, source, modality=modality, whole=encoder.state_dict())


# By data set and modality, in the order of a cell's inputs.
ENCODERS: dict[str, dict[str, Build]] = {
    "mmimdb": {"image": poster, "text": text},
    "ntu": {"rgb": inflated, "skeleton": skeleton},
    "ego": {"rgb": partial(resnext, 3), "depth": partial(resnext, 1)},
}
