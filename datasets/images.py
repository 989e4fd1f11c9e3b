"""Decoding: JPEG, PNG and TIFF files, of 8 or 16 bits, to uint8 tensors.

torchvision decodes JPEG and PNG, Pillow TIFF, which torchvision does not know. Sixteen bits become eight: RGB by its
full scale; thermal linearly between two counts, those of the data set where it names them, else those of the image
itself, below and above which a thousandth of its pixels lies, as thermal counts fill a small part of their scale.

Shapes: h, w size of the image.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
TIFF = (".tif", ".tiff")
MAX_GREY_DIFFERENCE = 8  # levels of 255 by which the channels of a grey picture may differ after JPEG
BITS_PER_SAMPLE = 258  # TIFF tag
# What the two libraries raise on files that are no images, or are cut.
UNREADABLE = (RuntimeError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
STRETCH = (0.1, 99.9)  # percentiles: a dead pixel must not set the scale, a person far away may be cut to white

Counts = tuple[float, float]


def read_rgb(path: str) -> torch.Tensor:
    """Decode an image as uint8 (3, h, w); one grey channel becomes three.

    Raises:
        UserError: the file cannot be decoded.
    """
    image = _decode(path, ImageReadMode.RGB)
    if image.dtype == torch.uint16:
        image = torch.from_numpy(_eight_bits(image.numpy(), (0, 65535)))
    return image[:1].expand(3, -1, -1).contiguous() if len(image) < 3 else image[:3]


def read_thermal(path: str, counts: Counts | None = None) -> torch.Tensor:
    """Decode a thermal image, of one channel or three equal ones, as uint8 (1, h, w).

    Args:
        counts: (dark, bright): 16-bit values that become 0 and 255; None: the image's own.
    Raises:
        UserError: the file cannot be decoded, or is a picture in colours.
    """
    image = _one_channel(_decode(path, ImageReadMode.UNCHANGED), path)
    if image.dtype == torch.uint16:
        values = image.numpy()
        image = torch.from_numpy(_eight_bits(values, counts or tuple(np.percentile(values, STRETCH))))
    return image


def _decode(path: str, mode: ImageReadMode) -> torch.Tensor:
    """Give uint8 or uint16 (channels, h, w)."""
    suffix = Path(path).suffix.lower()
    try:
        by_pillow = suffix in TIFF or (suffix == ".png" and _has_palette(path))
        image = _decode_with_pillow(path, mode) if by_pillow else decode_image(path, mode=mode)
    except UserError:
        raise
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: expected an image, found one that cannot be decoded ({reason})") from error
    return image


def _has_palette(path: str) -> bool:
    """Tell whether a PNG holds places in a table of colours, which torchvision would give as if they were grey."""
    with open(path, "rb") as file:
        head = file.read(26)  # signature, then the IHDR chunk, in which byte 25 is the colour type
    return len(head) == 26 and head[25] == 3


def _decode_with_pillow(path: str, mode: ImageReadMode) -> torch.Tensor:
    with Image.open(path) as image:
        bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) if hasattr(image, "tag_v2") else 8
        image.load()
        grey = len(image.getbands()) <= 2
        # Pillow cuts sixteen bits of three channels to the upper eight: all of a photograph, little of thermal counts.
        if bits > 16 or (bits == 16 and not grey and mode is ImageReadMode.UNCHANGED):
            raise UserError(
                f"{path}: expected a TIFF image of 8 bits per channel, or one channel of 16, "
                f"found {len(image.getbands())} of {bits}"
            )
        if bits == 16 and grey:
            return torch.from_numpy(np.asarray(image).astype(np.uint16)[None])
        pixels = np.array(image.convert("L" if grey else "RGB"))
    return torch.from_numpy(pixels[None] if grey else pixels.transpose(2, 0, 1).copy())


def _one_channel(image: torch.Tensor, path: str) -> torch.Tensor:
    if len(image) <= 2:  # a second or fourth channel is opacity
        return image[:1].contiguous()
    full = 65535 if image.dtype == torch.uint16 else 255
    red, green, blue = image[:3].to(torch.int32)
    difference = max((red - green).abs().max().item(), (green - blue).abs().max().item())
    if difference > MAX_GREY_DIFFERENCE * full / 255:
        found = f"channels that differ by up to {difference} of {full}"
        raise UserError(f"{path}: expected a thermal image with one channel or three equal ones, found {found}")
    return image[:1].contiguous()


def _eight_bits(values: np.ndarray, counts: Counts) -> np.ndarray:
    """Map 16-bit values linearly, (dark, bright) to 0 and 255, to the nearest integer; those outside are cut."""
    dark, bright = counts
    share = (values.astype(np.float64) - dark) / max(bright - dark, 1)
    return (share.clip(0, 1) * 255).round().astype(np.uint8)
