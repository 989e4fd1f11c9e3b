"""From a decoded picture to the input of an ONNX detector, and boxes in that input back to pixels of the picture.

Both axes of a letterbox have one scale, as in the training of most detectors, so the resized sides are rounded and the
scale is not. `stretch` has a scale per axis.

Shapes: h, w picture; H, W what the detector sees, with the margin of a letterbox. Sizes are (height, width).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Size = tuple[int, int]
LAYOUTS = {"nchw": (1, 2, 3), "nhwc": (3, 1, 2), "chw": (0, 1, 2), "hwc": (2, 0, 1)}  # axes of channels, height, width
RESIZES = ("letterbox", "letterbox_centre", "stretch", "none")
COLOURS = 3


@dataclass(frozen=True)
class Fit:
    """Where a picture lies in an input: x_input = x_picture * scale_x + left, and the same for y.

    Args:
        picture: (h, w).
        input: (H, W).
        resized: (height, width) of the picture in the input.
    """

    picture: Size
    input: Size
    resized: Size
    scale_x: float
    scale_y: float
    left: int = 0
    top: int = 0

    def to_picture(self, boxes_xyxy: Tensor) -> Tensor:
        """Return boxes (N, 4) in pixels of the picture, cut to it, from pixels of the input."""
        offset = torch.tensor([self.left, self.top] * 2, dtype=boxes_xyxy.dtype)
        scale = torch.tensor([self.scale_x, self.scale_y] * 2, dtype=boxes_xyxy.dtype)
        far_corner = torch.tensor([*self.picture[::-1]] * 2, dtype=boxes_xyxy.dtype)
        return ((boxes_xyxy - offset) / scale).clamp(min=0).minimum(far_corner)


# What a further input of a detector may be, as a row of a batch of one.
EXTRA_INPUTS = {
    "size_hw": lambda fit: fit.input,
    "size_wh": lambda fit: fit.input[::-1],
    "extent_hw": lambda fit: (fit.picture[0] * fit.scale_y, fit.picture[1] * fit.scale_x),
    "ones": lambda fit: (1, 1),
}


@dataclass(frozen=True)
class PictureInput:
    """The input of a detector that takes the picture.

    Args:
        name: of the input.
        dtype: of NumPy.
        layout: of LAYOUTS.
        channels: 3, or 1 for grey.
        bgr: whether blue comes first.
        max_value: of white, 255 or 1.
        mean, std: subtracted and divided by, in units of `max_value`, one number per channel in the input's order.
        resize: of RESIZES.
        size: (H, W) that pictures are fitted into; None with "none" alone.
        multiple: the input is cut, or with "none" extended, to the least multiples of this that hold the picture.
        fill: colour of the margin, 0..255, one number or red, green and blue.
    """

    name: str
    dtype: str
    layout: str
    channels: int = COLOURS
    bgr: bool = False
    max_value: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: str = "letterbox"
    size: Size | None = None
    multiple: int | None = None
    fill: tuple[int, ...] = (114,)

    @property
    def words(self) -> str:
        """How a picture is read, in words."""
        colours = "grey" if self.channels == 1 else "bgr" if self.bgr else "rgb"
        values = "" if self.dtype == "uint8" else f" 0..{self.max_value:g}"
        size = f"{self.size[0]}x{self.size[1]}" if self.size else "any size"
        return f"{self.dtype} {colours}{values}, {size}, resize {self.resize}"

    def fit(self, height: int, width: int) -> Fit:
        """Return where a picture of this size lies."""
        picture = (height, width)
        if self.resize == "none":
            return Fit(picture, self._input_size(picture), picture, 1.0, 1.0)
        room_y, room_x = self.size
        if self.resize == "stretch":
            return Fit(picture, self.size, self.size, room_x / width, room_y / height)
        scale = min(room_y / height, room_x / width)
        resized = max(1, round(height * scale)), max(1, round(width * scale))
        size = self._input_size(resized)
        centred = self.resize == "letterbox_centre"
        top, left = ((room - side) // 2 if centred else 0 for room, side in zip(size, resized))
        return Fit(picture, size, resized, scale, scale, left, top)

    def _input_size(self, resized: Size) -> Size:
        if self.multiple is None:
            return self.size or resized
        return tuple(math.ceil(side / self.multiple) * self.multiple for side in resized)

    def array(self, picture: Tensor, fit: Fit) -> np.ndarray:
        """Return the input of a picture, uint8 (3 or 1, h, w)."""
        if len(picture) == COLOURS and self.channels == 1:
            picture = F.rgb_to_grayscale(picture)
        pixels = F.resize_image(picture, list(fit.resized)).expand(self.channels, -1, -1)
        canvas = torch.tensor(self.fill, dtype=torch.uint8).view(-1, 1, 1).expand(self.channels, *fit.input).clone()
        canvas[:, fit.top : fit.top + fit.resized[0], fit.left : fit.left + fit.resized[1]] = pixels
        values = (canvas.flip(0) if self.bgr else canvas).numpy()
        if self.dtype != "uint8":
            mean, std = (np.array(numbers, np.float32).reshape(-1, 1, 1) for numbers in (self.mean, self.std))
            values = (values.astype(np.float32) / (255 / self.max_value) - mean) / std
        values = values.astype(self.dtype)
        values = values.transpose(1, 2, 0) if self.layout.endswith("hwc") else values
        return np.ascontiguousarray(values[None] if self.layout.startswith("n") else values)
