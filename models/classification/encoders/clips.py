"""Convolutional networks of clips: inflated ResNets, and the 3-D ResNeXt-101 of 1711.09577.

Inflated (1705.07750): torchvision's ResNet with a 1x7x7 stem; every 3x3 kernel becomes 3x3x3, all frames are kept.

Shapes: B batch, T frames, K classes.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.resnet import ResNet

from models.classification.encoders.body import BodyEncoder
from models.classification.encoders.statistics import GREY, IMAGENET, Statistics
from models.encoder_weights import load_encoder, tensors_of

FLAT = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # of torchvision


class _Clips(BodyEncoder):
    """Four stages; the last three and the pooled last one are the taps."""

    statistics: Statistics = IMAGENET
    stem: nn.Module
    stages: nn.ModuleList

    def taps(self, clips: Tensor) -> list[Tensor]:
        """Return maps of 512, 1024 and 2048 channels (B, C, t, h, w) and (B, 2048), of clips (B, 3 or 1, T, H, W)."""
        x, taps = self.stages[0](self.stem(clips)), []
        for stage in self.stages[1:]:
            x = stage(x)
            taps.append(x)
        return [*taps, x.mean(dim=(2, 3, 4))]

    def body(self) -> list[nn.Module]:
        return [self.stem, self.stages]

    def pooled(self, clips: Tensor) -> Tensor:
        """Return the mean of the last stage (B, 2048), of clips (B, 3 or 1, T, H, W)."""
        return self.taps(clips)[-1]


class InflatedResNet(_Clips):
    """Of 8 frames of 256x256, resnet50: taps (512, 8, 32, 32), (1024, 8, 16, 16), (2048, 8, 8, 8), 2048.

    Args:
        num_classes: K.
        imagenet: inflate torchvision's ImageNet weights: a kernel's weights are spread evenly over time.
        name: of the network, one of FLAT.
    """

    def __init__(self, num_classes: int, imagenet: bool = False, name: str = "resnet50"):
        super().__init__()
        flat = get_model(name, weights="DEFAULT" if imagenet else None)
        last, self.name = flat.fc.in_features, name
        self.channels = {"layer2": last // 4, "layer3": last // 2, "layer4": last, "pooled": last}
        inflate(flat)
        self.stem = nn.Sequential(flat.conv1, flat.bn1, flat.relu, nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
        self.stages = nn.ModuleList((flat.layer1, flat.layer2, flat.layer3, flat.layer4))
        self.classifier = nn.Linear(last, num_classes)

    def load_start(self, state: dict, source: str, modality: str) -> list[str]:
        """Load stem and stages from a file, of torchvision's flat network or of ours; returns the names not read."""
        parts = nn.ModuleDict({"stem": self.stem, "stages": self.stages})
        if "conv1.weight" not in tensors_of(state, modality):
            return load_encoder(parts, state, source, modality=modality, whole=self.state_dict())
        flat = get_model(self.name, weights=None)
        whole, flat.fc = list(flat.state_dict()), nn.Identity()
        rest = load_encoder(flat, state, source, modality=modality, whole=whole)
        inflate(flat)
        # Both have the same parts in the same order: stem's convolution and norm, then the stages.
        parts.load_state_dict(dict(zip(parts.state_dict(), flat.state_dict().values(), strict=True)))
        return rest


def inflate(network: ResNet) -> None:
    """Turn the 2-D convolutions and norms of a network into 3-D ones, in place; 3x3 kernels get a depth of 3."""
    for name, child in network.named_children():
        if isinstance(child, nn.Conv2d):
            setattr(network, name, inflated(child))
        elif isinstance(child, nn.BatchNorm2d):
            norm = nn.BatchNorm3d(child.num_features)
            norm.load_state_dict(child.state_dict())
            setattr(network, name, norm)
        else:
            inflate(child)


def inflated(conv: nn.Conv2d) -> nn.Conv3d:
    """Return the convolution extended over time; for equal frames, its output is that of the flat one for one frame."""
    depth = 3 if conv.kernel_size == (3, 3) else 1
    kernel, stride, padding = (depth, *conv.kernel_size), (1, *conv.stride), (depth // 2, *conv.padding)
    others = {"groups": conv.groups, "bias": conv.bias is not None}
    deep = nn.Conv3d(conv.in_channels, conv.out_channels, kernel, stride, padding, **others)
    with torch.no_grad():
        deep.weight.copy_(conv.weight[:, :, None].expand_as(deep.weight) / depth)
    return deep


class _Block(nn.Module):
    """A bottleneck of 32 groups."""

    def __init__(self, num_in: int, width: int, num_out: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(num_in, width, 1, bias=False), nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, 1, groups=32, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3, self.bn3 = nn.Conv3d(width, num_out, 1, bias=False), nn.BatchNorm3d(num_out)
        self.downsample = None
        if stride != 1 or num_in != num_out:
            self.downsample = nn.Sequential(nn.Conv3d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm3d(num_out))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + (x if self.downsample is None else self.downsample(x)))


def _stage(num_in: int, width: int, depth: int, stride: int) -> nn.Sequential:
    """Return `depth` blocks, the first of which has the stride."""
    first = _Block(num_in, width, 2 * width, stride)
    return nn.Sequential(first, *(_Block(2 * width, width, 2 * width, 1) for _ in range(depth - 1)))


class ResNeXt101(_Clips):
    """Of 32 frames of 112x112: taps (512, 8, 14, 14), (1024, 4, 7, 7), (2048, 2, 4, 4), 2048.

    Args:
        num_classes: K.
        in_channels: 3 for RGB, 1 for depth.
        depths: blocks of each stage.
    """

    channels: ClassVar[dict[str, int]] = {"layer2": 512, "layer3": 1024, "layer4": 2048, "pooled": 2048}

    def __init__(self, num_classes: int, in_channels: int = 3, depths: tuple[int, int, int, int] = (3, 4, 23, 3)):
        super().__init__()
        self.statistics = IMAGENET if in_channels == 3 else GREY
        conv = nn.Conv3d(in_channels, 64, 7, (1, 2, 2), 3, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm3d(64), nn.ReLU(inplace=True), nn.MaxPool3d(3, 2, 1))
        widths = (128, 256, 512, 1024)  # half of what a stage puts out
        sizes = zip((64, *widths[1:]), widths, depths, (1, 2, 2, 2), strict=True)
        self.stages = nn.ModuleList(_stage(*size) for size in sizes)
        self.classifier = nn.Linear(2048, num_classes)
