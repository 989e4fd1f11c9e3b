"""Decoding of JPEG, PNG and TIFF files, of 8 or 16 bits, to uint8 tensors. The first bytes of a file give its format.

torchvision decodes JPEG, and Pillow decodes PNG and TIFF: torchvision has no TIFF decoder, returns palette indices of a
PNG as grey values, and ends the process at some damaged PNG files. Sixteen bits become eight. RGB is divided by its
full scale. Thermal counts fill a small part of their scale, so they are mapped linearly between two counts: those of
the data set where it has them, else the image's own, below and above which a thousandth of its pixels are.

Images of one channel, for which torch's kernel for bytes is not made, are resized here as well.

Shapes: h, w size of the image; H, W that of a resized one.
"""

import os
import stat

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.io import ImageReadMode, decode_image, decode_jpeg
from torchvision.transforms.v2 import functional as F

from utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
# Markers of a JPEG (ITU T.81, table B.1): frames, those of several scans, those without content, and what fills.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
STANDALONE = frozenset((0x01, *range(0xD0, 0xDA)))
FILLERS = frozenset((0x00, 0xFF))
BIT_DEPTH = 24  # the byte of a PNG that holds it
HEAD = 26  # first bytes of a file, which give its format
MAX_GREY_DIFFERENCE = 8  # levels of 255 by which the channels of a grey picture may differ after JPEG
BITS_PER_SAMPLE = 258  # TIFF tag
# What the two libraries raise on files that are no images, or are cut.
UNREADABLE = (RuntimeError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
MAX_BYTES = 2**29  # of a file
MAX_PIXELS = 2**26  # of an image: 8192 x 8192; a small file can claim any number
MAX_SCANS = 64  # of a progressive JPEG, each of which goes through the whole image; encoders make about ten
MAX_MARKERS = 10_000  # of a JPEG, before its frame
# Instruction sets for which torchvision has torch resize bytes as such. Up to 0.23 it overlooked AVX512
# (github.com/pytorch/vision/pull/9190) and went by floats there, which round otherwise.
NEWER = tuple(map(int, torchvision.__version__.split(".")[:2])) >= (0, 24)
BYTE_KERNELS = ("AVX2", "AVX512") if NEWER else ("AVX2",)
STRETCH = (0.1, 99.9)  # percentiles: a dead pixel must not set the scale; a distant person may be cut to white

Counts = tuple[float, float]


def read_rgb(path: str) -> torch.Tensor:
    """Decode an image as uint8 (3, h, w); one grey channel becomes three.

    Raises:
        UserError: the file cannot be decoded.
    """
    image = _as_bytes(_decode(path, ImageReadMode.RGB), (0, 65535))
    return image[:1].expand(3, -1, -1).contiguous() if len(image) < 3 else image[:3]


def read_thermal(path: str, counts: Counts | None = None) -> torch.Tensor:
    """Decode a thermal image, of one channel or three equal ones, as uint8 (1, h, w).

    Args:
        counts: (dark, bright): 16-bit values that become 0 and 255; None: the image's own.
    Raises:
        UserError: the file cannot be decoded, or is a picture in colours.
    """
    return _as_bytes(read_thermal_values(path), counts)


def read_thermal_values(path: str) -> torch.Tensor:
    """Decode a thermal image as it is stored, uint8 or uint16 (1, h, w); errors as `read_thermal`."""
    image = _decode(path, ImageReadMode.UNCHANGED)
    if len(image) <= 2:  # a second or fourth channel is opacity
        return image[:1].contiguous()
    full = 65535 if image.dtype == torch.uint16 else 255
    red, green, blue = image[:3].to(torch.int32)
    difference = max((red - green).abs().max().item(), (green - blue).abs().max().item())
    if difference > MAX_GREY_DIFFERENCE * full / 255:
        found = f"channels that differ by up to {difference} of {full}"
        raise UserError(f"{path}: expected a thermal image with one channel or three equal ones, found {found}")
    return image[:1].contiguous()


def _decode(path: str, mode: ImageReadMode) -> torch.Tensor:
    """Return uint8 or uint16 (channels, h, w)."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("a folder or a pipe")  # opening a pipe would wait for ever
        if status.st_size > MAX_BYTES:
            raise ValueError(f"a file of more than {MAX_BYTES} bytes")
        # torchvision's own reading of a file takes a tenth of the time of its decoding, two openings more.
        content = np.fromfile(path, dtype=np.uint8)
        head = content[:HEAD].tobytes()
        kind = next((kind for kind, starts in SIGNATURES.items() if head.startswith(starts)), "")
        if kind == "JPEG":
            _check_jpeg(content.tobytes())
            return decode_jpeg(torch.from_numpy(content), mode=mode)
        if not kind:
            raise ValueError("neither JPEG nor PNG nor TIFF" if head else "an empty file")
        if kind == "PNG":
            with Image.open(path, formats=["PNG"]) as image:
                _check_pixels(*image.size)
                image.verify()  # the check sums, which Pillow does not compare when it decodes
        image = _decode_with_pillow(path, mode)
        # Pillow cuts sixteen bits of three channels to eight. Only what it could read goes to torchvision: a PNG of
        # too little or damaged content ends the process there.
        cut = kind == "PNG" and head[BIT_DEPTH] == 16 and image.dtype == torch.uint8
        return decode_image(path, mode=mode) if cut else image
    except UserError:
        raise
    except UNREADABLE as error:
        # torchvision puts the place in its own code in front, on the same line.
        reason = str(error).partition("\n")[0].rpartition(".cpp:")[2].lstrip("0123456789, ") or type(error).__name__
        raise UserError(f"{path}: expected an image, found one that cannot be decoded ({reason})") from error


def _check_jpeg(content: bytes) -> None:
    """Refuse a JPEG that claims too many pixels or scans; the decoder reports all other faults."""
    place = 2
    for _ in range(MAX_MARKERS):
        place = content.find(b"\xff", place)  # as the decoder does, which skips the bytes between markers
        if place < 0 or place + 9 > len(content):
            return
        marker = content[place + 1]
        if marker in FRAMES:
            height, width = (content[i] << 8 | content[i + 1] for i in (place + 5, place + 7))
            _check_pixels(width, height)
            if marker in PROGRESSIVE and content.count(b"\xff\xda") > MAX_SCANS:
                raise ValueError(f"a JPEG of more than {MAX_SCANS} scans")
            return
        if marker in FILLERS:
            place += 1
        else:
            place += 2 if marker in STANDALONE else 2 + (content[place + 2] << 8 | content[place + 3])
    raise ValueError(f"a JPEG without a frame among its first {MAX_MARKERS} markers")


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"an image of {width}x{height} px, which are more than {MAX_PIXELS}")


def _decode_with_pillow(path: str, mode: ImageReadMode) -> torch.Tensor:
    with Image.open(path, formats=["PNG", "TIFF"]) as image:
        _check_pixels(*image.size)
        sixteen = hasattr(image, "tag_v2") and 16 in image.tag_v2.get(BITS_PER_SAMPLE, ())
        image.load()
        grey = image.mode in ("1", "L", "LA")
        if image.mode.startswith("I;16"):
            return torch.from_numpy(np.asarray(image).astype(np.uint16)[None])
        # Pillow cuts sixteen bits of three channels to the upper eight: all of a photograph, little of thermal counts.
        if image.mode in ("I", "F") or (sixteen and mode is ImageReadMode.UNCHANGED):
            expected = "a TIFF image of 8 bits per channel, or one channel of 16 without sign"
            found = f"{len(image.getbands())} of {16 if sixteen else 32} bits"
            raise UserError(f"{path}: expected {expected}, found {found}")
        pixels = np.array(image.convert("L" if grey else "RGB"))
    return torch.from_numpy(pixels[None] if grey else pixels.transpose(2, 0, 1).copy())


def _as_bytes(image: torch.Tensor, counts: Counts | None) -> torch.Tensor:
    return torch.from_numpy(eight_bits(image.numpy(), counts)) if image.dtype == torch.uint16 else image


def eight_bits(values: np.ndarray, counts: Counts | None) -> np.ndarray:
    """Map 16-bit values linearly, (dark, bright) to 0 and 255, to the nearest integer; those outside are cut.

    Args:
        counts: (dark, bright); None: the image's own.
    """
    dark, bright = counts or np.percentile(values, STRETCH)
    share = (values.astype(np.float64) - dark) / max(bright - dark, 1)
    return (share.clip(0, 1) * 255).round().astype(np.uint8)


def resize_grey(image: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Resize uint8 (1, h, w) to (1, H, W), `size`, as `F.resize_image` does, to the bit, in about half of its time.

    torch's kernel for bytes works along the rows, then along the columns, and is fast with channels that lie side by
    side: here these are first rows from the four quarters of the image, then four neighbours in a row. Processors for
    which torch has no such kernel take the plain way.
    """
    height, width = image.shape[-2:]
    if [height, width] == size or torch.backends.cpu.get_cpu_capability() not in BYTE_KERNELS:
        return F.resize_image(image, size)
    quarter = -(-height // 4)
    packed = torch.zeros(quarter, width, dtype=torch.int32)
    for place, rows in enumerate(image[0].split(quarter)):
        packed[: len(rows)].add_(rows, alpha=1 << 8 * place)
    packed = _resize_four(packed.view(torch.uint8).view(quarter, width, 4), quarter, size[1]).view(torch.int32)[..., 0]
    wide = torch.empty(height, size[1] + -size[1] % 4, dtype=torch.uint8)
    for rows in wide.split(quarter):
        rows[:, : size[1]] = packed[: len(rows)]  # the lowest byte
        packed >>= 8
    resized = _resize_four(wide.view(height, -1, 4), size[0], wide.shape[1] // 4)
    return resized.view(1, size[0], -1)[..., : size[1]]


def _resize_four(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize uint8 (h, w, 4) to (height, width, 4)."""
    return F.resize_image(image.permute(2, 0, 1), [height, width]).permute(1, 2, 0).contiguous()
