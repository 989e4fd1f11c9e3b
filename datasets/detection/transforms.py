"""Letterboxing and augmentation of the images of one scene: geometry is drawn once, photometry once per modality.

Built on torchvision's v2 functions. Differs from `v2.ScaleJitter` and `v2.RandomCrop` in two ways: one scale serves
both axes, so that boxes are mapped back to original pixels by one division, and the fill is the mean of each modality.

An oriented canvas is FCOS's resize (Tian et al. 2019): the short side of a picture becomes that of `image_size` unless
its long side then exceeds the other one, and what is filled is 0 after normalisation. Portrait pictures have the canvas
of landscape ones, transposed.

Shapes: h, w original size; H, W letterboxed size; N boxes of one image. Boxes are xyxy pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxFormat

from datasets.images import resize_grey
from utils.untrusted import checked

Normalization = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]  # mean and deviation in 0..1 by modality

MIN_VISIBLE = 0.25  # share of a box's area that a crop must leave: less shows too little to recognise the object
MIN_SIDE_PX = 1.0  # letterboxed pixels
COLOUR = 3  # channels of an image in colours; others are grey
MULTIPLE = 32  # of the sides of an oriented canvas: the stride of the encoders' coarsest maps
HUE_SHARE = 0.1  # of the photometric strength: in SSD (Liu et al. 2016) contrast moves by 0.5 and hue by 0.05 turns


@dataclass(frozen=True)
class Placement:
    """Where an image lies in its sample: mirrored left to right (`flip`), then resized, then cropped and filled.

    `resized` is (height, width) after the resize by `scale`. `top` and `left` say where the resized image begins in
    the sample: a negative number is cropped, a positive one is filled. `factor` is that on the scale that fits.
    `canvas` is (H, W) of the sample.
    """

    flip: bool
    factor: float
    scale: float
    resized: tuple[int, int]
    top: int
    left: int
    canvas: tuple[int, int]


@dataclass(eq=False)
class DetectionTransform:
    """Turn the decoded images of one scene into a sample of a size that follows from `image_size`.

    In testing images are scaled to fit, placed at the top left, and filled with the mean; nothing is drawn. Training
    adds, in this order, a horizontal flip, a factor on the scale that fits with a crop or placement, and photometry.

    Args:
        image_size: (height, width) of the letterboxed image; of landscape ones where `oriented`, in multiples of 32.
        fill: by modality, an integer 0..255 for each channel of its images (see `fill_from_mean`).
        train: augment with the values below, which are not used otherwise.
        hflip: probability of a flip.
        scale_jitter: (lowest, highest) factor on the scale that fits; (1, 1) is off, top left as in testing.
        scales: factors on the scale that fits, of which one is drawn in place of one of `scale_jitter`; images are then
            placed or cropped in the centre, and where the factor is 1, placed as in testing.
        photometric: strength s in 0..1. Brightness and contrast of each image are multiplied by 1 - s .. 1 + s. So is
            the saturation of images in colours, whose hue moves by up to s / 10 turns.
        oriented: images that are higher than wide get (width, height) in place of `image_size`.
    """

    image_size: tuple[int, int]
    fill: dict[str, list[int]]
    train: bool
    hflip: float = 0.5
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    photometric: float = 0.0
    scales: tuple[float, ...] = ()
    oriented: bool = False

    def __post_init__(self) -> None:
        factors, strength = "two factors, 0 < lowest <= highest", self.photometric
        checked(self.hflip, lambda value: 0 <= value <= 1, "a probability in 0..1", "hflip")
        checked(self.scale_jitter, lambda value: len(value) == 2 and 0 < value[0] <= value[1], factors, "scale_jitter")
        checked(strength, lambda value: 0 <= value <= 1, "a strength in 0..1", "photometric")
        # Channels last in memory as decoded images are, so that copies go row by row.
        colours = {modality: torch.tensor(values, dtype=torch.uint8) for modality, values in self.fill.items()}
        extent = (max(self.image_size),) * 2 if self.oriented else self.image_size
        self.canvases = {m: c.expand(*extent, -1).contiguous().permute(2, 0, 1) for m, c in colours.items()}
        grey = v2.ColorJitter(strength, strength)
        colour = v2.ColorJitter(strength, strength, strength, HUE_SHARE * strength)
        self.photometry = {m: colour if len(values) == COLOUR else grey for m, values in self.fill.items()}

    def __call__(self, images: dict[str, Tensor], boxes_xyxy: Tensor, labels: Tensor) -> dict[str, Any]:
        """Transform the images of one scene; draws come from torch's global CPU generator.

        Args:
            images: by modality, uint8 (channels, h, w), all of one size. Photometry is drawn in this order.
            boxes_xyxy: float32 (N, 4) in original pixels.
            labels: int64 (N,).
        Returns:
            "images" by modality, uint8 (channels, H, W); "boxes_xyxy" float32 (M, 4) clipped, "labels" (M,), "scale",
            "flip", "factor", "image_size" (H, W). Boxes of which a crop left less than a quarter, or less than 1 px on
            a side, are removed (M <= N). Without `train`, letterboxed = original * scale.
        """
        height, width = next(iter(images.values())).shape[-2:]
        placement = self.draw((height, width))
        targets = self.targets(boxes_xyxy, labels, (height, width), placement)
        return targets | {"images": self.place(images, placement)}

    def targets(
        self, boxes_xyxy: Tensor, labels: Tensor, size: tuple[int, int], placement: Placement
    ) -> dict[str, Any]:
        """Return a sample without its images: the boxes moved into it, but for those that a crop hides.

        Args:
            boxes_xyxy: float32 (N, 4) in original pixels.
            labels: int64 (N,).
            size: (h, w) of the original.
            placement: as drawn for this size.
        Returns:
            "boxes_xyxy" (M, 4) in letterboxed pixels, "labels" (M,), "scale", "flip", "factor", "image_size" (H, W).
        """
        boxes_xyxy = boxes_xyxy.reshape(-1, 4)
        if placement.flip:
            boxes_xyxy = F.horizontal_flip_bounding_boxes(boxes_xyxy, BoundingBoxFormat.XYXY, size)
        # In NumPy, which needs a third of torch's time for some twenty operations on a few numbers.
        moved = boxes_xyxy.numpy() * placement.scale + np.array([placement.left, placement.top] * 2, np.float32)
        visible = np.minimum(moved.clip(0), np.array(placement.canvas[::-1] * 2, np.float32))
        sides, whole_sides = (boxes[:, 2:] - boxes[:, :2] for boxes in (visible, moved))
        keep = (sides.prod(1) >= MIN_VISIBLE * whole_sides.prod(1)) & (sides >= MIN_SIDE_PX).all(1)
        kept = {"boxes_xyxy": torch.from_numpy(visible[keep]), "labels": labels[torch.from_numpy(keep)]}
        drawn = {"scale": placement.scale, "flip": placement.flip, "factor": placement.factor}
        return kept | drawn | {"image_size": placement.canvas}

    def draw(self, size: tuple[int, int], short_side: int | None = None) -> Placement:
        """Draw the geometry of a scene: the first draws of a sample.

        Args:
            size: (h, w) of the original.
            short_side: takes the place of that of an oriented `image_size`.
        """
        room = self._room(size, short_side)
        canvas = tuple(-(-side // MULTIPLE) * MULTIPLE for side in room) if self.oriented else room
        flip, factor, position = False, 1.0, (0.0, 0.0)
        if self.train:
            drawn, factor, *position = torch.rand(4).tolist()
            low, high = self.scale_jitter
            flip = drawn < self.hflip
            if self.scales:
                low = high = self.scales[int(factor * len(self.scales))]
                position = [0.5, 0.5]
            factor = low + factor * (high - low)
            position = (0.0, 0.0) if low == high == 1 else position
        scale = min(room[0] / size[0], room[1] / size[1]) * factor
        height, width = (max(1, round(side * scale)) for side in size)
        top, left = (round(p * (whole - side)) for p, whole, side in zip(position, canvas, (height, width)))
        return Placement(flip, factor, scale, (height, width), top, left, canvas)

    def _room(self, size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
        """Return the (height, width) that a scene of `size` is scaled to fit."""
        if not self.oriented:
            return self.image_size
        room = short_side or self.image_size[0], self.image_size[1]
        return room[::-1] if is_portrait(*size) else room

    def place(self, images: dict[str, Tensor], placement: Placement) -> dict[str, Tensor]:
        """Return images (channels, h, w) as they are in the sample, (channels, H, W)."""
        return {modality: self._place(image, modality, placement) for modality, image in images.items()}

    def _place(self, image: Tensor, modality: str, placement: Placement) -> Tensor:
        """Flip, resize, crop, change colours (before the fill, which stays the mean) and fill up to (C, H, W)."""
        height, width = placement.canvas
        top, left = placement.top, placement.left
        if placement.flip:
            image = F.horizontal_flip_image(image)
        resize = resize_grey if len(image) == 1 else F.resize_image
        image = resize(image, list(placement.resized))
        image = image[:, max(-top, 0) :, max(-left, 0) :][:, :height, :width]
        if self.train:
            image = self.photometry[modality](image)
        canvas = self.canvases[modality][:, :height, :width].clone()
        top, left = max(top, 0), max(left, 0)
        canvas[:, top : top + image.shape[-2], left : left + image.shape[-1]] = image
        return canvas


class AsDecoded:
    """Takes the place of `DetectionTransform` for networks that resize images themselves: nothing is changed."""

    def draw(self, size: tuple[int, int]) -> Placement:
        return Placement(flip=False, factor=1.0, scale=1.0, resized=size, top=0, left=0, canvas=size)

    def place(self, images: dict[str, Tensor], placement: Placement) -> dict[str, Tensor]:
        return images

    def targets(
        self, boxes_xyxy: Tensor, labels: Tensor, size: tuple[int, int], placement: Placement
    ) -> dict[str, Any]:
        """Return a sample without its images, as `DetectionTransform.targets`; "image_size" is that of the images."""
        boxes = {"boxes_xyxy": boxes_xyxy.reshape(-1, 4), "labels": labels}
        drawn = {"scale": placement.scale, "flip": placement.flip, "factor": placement.factor}
        return boxes | drawn | {"image_size": size}


def is_portrait(height: int, width: int) -> bool:
    """Return whether a picture is higher than wide."""
    return height > width


def with_whole_levels(normalization: Normalization, channels: dict[str, int]) -> Normalization:
    """Return the means rounded to levels of 255, so that the fill is exactly 0 after normalisation."""
    fill = fill_from_mean(normalization, channels)
    means = {m: tuple(level / 255 for level in levels) * (COLOUR // len(levels)) for m, levels in fill.items()}
    return {modality: (means[modality], normalization[modality][1]) for modality in channels}


def fill_from_mean(normalization: Normalization, channels: dict[str, int]) -> dict[str, list[int]]:
    """Return the fill of each modality, an integer 0..255 per channel, from its mean of three channels in 0..1.

    Args:
        normalization: (mean, standard deviation) of each modality.
        channels: of the images of each modality, 3 or 1.
    """
    means = {modality: normalization[modality][0] for modality in channels}
    return {
        modality: [round(255 * v) for v in (mean if channels[modality] == COLOUR else [sum(mean) / len(mean)])]
        for modality, mean in means.items()
    }
