"""Corruptions of a picture by weather, light and faults: one small function each, in one table, at severities 1 to 5.

Constants in capitals are named after ImageNet-C (Hendrycks and Dietterich 2019, arXiv:1903.12261) where it has the
corruption, and are its own. Its pictures have 224 px: here lengths grow with the picture's shorter side. All act on
decoded pictures, before any resize. On a thermal picture they act on its grey values in the same way: as a fault of the
optics or electronics of either camera, not as the physics of heat (from a real thermal camera fog hides less, and
darkness nothing).

`CorruptedImages` gives test samples with each severity beside the clean images.

Shapes: pictures are uint8 (C, h, w), C 3 for RGB and 1 for thermal, and so are the results. H, W letterboxed size.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.v2 import functional as F

from datasets.data_module import DataModule
from datasets.detection.dataset import DetectionDataset, DetectionRecord, Images
from datasets.loader import SampleLoader

GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # ImageNet-C: standard deviation, of values in 0..1
GAUSSIAN_BLUR = (1, 2, 3, 4, 6)  # ImageNet-C: sigma, px of a picture of 224 px
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # ImageNet-C: factor on the distance from the mean
JPEG_COMPRESSION = (25, 18, 15, 10, 7)  # ImageNet-C: quality
# Ours, as ImageNet-C brightens and has another fog: set by eye, 1 just visible, 5 hiding most.
DARKNESS = (0.6, 0.4, 0.25, 0.14, 0.07)  # share of the light that is left
FOG = (0.25, 0.4, 0.55, 0.7, 0.85)  # mean share of the fog's grey
GLARE = ((0.05, 0.05), (0.08, 0.15), (0.12, 0.25), (0.16, 0.4), (0.22, 0.55))  # sun's radius / shorter side; veil
SHIFTS = (2, 4, 8, 16)  # px of the original picture
REFERENCE_PX = 224  # of ImageNet-C's pictures
FOG_GREY = 205.0
FOG_CELLS = (4, 5)  # of the random field that makes fog uneven
FOG_UNEVEN = 0.25  # how far the share of grey moves up and down, relative to it
HALO = 3.0  # reach of the light around the sun, in its radii
RIM = 0.15  # softness of its edge, in its radii
ALL_CHANNELS = 4  # of a pair: thermal, red, green, blue

Corruption = Callable[[Tensor, int, Generator], Tensor]


def black(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Return the picture of a dead sensor."""
    return torch.zeros_like(picture)


def noise_only(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Return noise, uniform over 0 to 255."""
    whole = torch.randint(256, (ALL_CHANNELS, *picture.shape[1:]), generator=draws, dtype=torch.uint8)
    return _own_channels(whole, picture)


def blur(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Put the lens out of focus: a Gaussian, along rows and then along columns."""
    sigma = GAUSSIAN_BLUR[severity - 1] * min(picture.shape[1:]) / REFERENCE_PX
    side = 2 * round(3 * sigma) + 1
    blurred = picture.float()
    for sides in ([side, 1], [1, side]):
        blurred = F.gaussian_blur(blurred, sides, [sigma, sigma])
    return _bytes(blurred)


def noise(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Add Gaussian noise; that of thermal is not that of RGB."""
    whole = torch.randn(ALL_CHANNELS, *picture.shape[1:], generator=draws)
    return _bytes(picture + 255 * GAUSSIAN_NOISE[severity - 1] * _own_channels(whole, picture))


def darkness(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Take light away, and with it the steps of grey."""
    return F.adjust_brightness(picture, DARKNESS[severity - 1])


def glare(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Add a low sun, a bright disk with a soft rim and a halo, and the veil that its light in the lens lays over all.

    It stands in the upper half, in both pictures of a pair at the same place. A thermal camera sees the sun, too, and
    strays light in its lens alike, so its grey values are brightened in the same way.
    """
    (height, width), (radius, veil) = picture.shape[1:], GLARE[severity - 1]
    radius = radius * min(height, width)
    across, down = torch.rand(2, generator=draws).tolist()
    rows = torch.arange(height)[:, None] - 0.5 * down * height
    far = torch.hypot(rows.float(), torch.arange(width)[None] - across * width) / radius  # in radii
    disk, halo = torch.sigmoid((1 - far) / RIM), torch.exp(-(far - 1).clamp(min=0) / HALO)
    kept = (1 - disk) * (1 - 0.8 * halo) * (1 - veil)
    return _bytes(255 - (255 - picture.float()) * kept)


def fog(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Mix the picture with a light grey, in swathes: more of it here, less there."""
    cells = 2 * torch.rand(1, *FOG_CELLS, generator=draws) - 1
    swathes = F.resize(cells, list(picture.shape[1:]), F.InterpolationMode.BICUBIC, antialias=True)
    share = (FOG[severity - 1] * (1 + FOG_UNEVEN * swathes)).clamp(0, 1)
    return _bytes(picture + share * (FOG_GREY - picture.float()))


def low_contrast(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Draw all values towards their mean."""
    return F.adjust_contrast(picture, CONTRAST[severity - 1])


def jpeg(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Pack the picture as a JPEG of low quality, and unpack it."""
    return decode_jpeg(encode_jpeg(picture.contiguous(), quality=JPEG_COMPRESSION[severity - 1]))


def shift(picture: Tensor, severity: int, draws: Generator) -> Tensor:
    """Move the picture to the right by `severity` px; what it uncovers repeats its left edge."""
    columns = (torch.arange(picture.shape[2]) - severity).clamp(min=0)
    return picture[:, :, columns]


GRADED: dict[str, Corruption] = {f.__name__: f for f in (blur, noise, darkness, glare, fog, low_contrast, jpeg)}
CORRUPTIONS = {"black": black, "noise_only": noise_only, **GRADED, "shift": shift}
FROZEN = "frozen"  # repeats an earlier picture, which it needs, so it is not in the table
DEAD_KINDS = ("black", FROZEN, "noise_only")
KINDS = (*DEAD_KINDS, *GRADED, "shift")
WORST = 5
CLEAN = 0  # the version that is not corrupted


def severities(kind: str) -> tuple[int, ...]:
    """Return the severities of a kind: 1 to 5, px of a shift, the worst alone of a dead sensor."""
    return {"shift": SHIFTS}.get(kind, (WORST,) if kind in DEAD_KINDS else tuple(range(1, WORST + 1)))


def corrupt(picture: Tensor, kind: str, severity: int, seed: int, image_id: str | int) -> Tensor:
    """Return the corrupted picture; its draws follow from seed, image id, kind and severity.

    Args:
        kind: of CORRUPTIONS.
        severity: of `severities(kind)`.
        seed: of the run.
    """
    words = repr((seed, image_id, kind, severity)).encode()
    draws = Generator().manual_seed(int.from_bytes(hashlib.blake2b(words, digest_size=7).digest(), "big"))
    return CORRUPTIONS[kind](picture, severity, draws)


@dataclass(eq=False)
class CorruptedImages(Dataset):
    """The samples of a dataset with "versions" in place of "images": the images of each severity.

    Args:
        dataset: its transform draws nothing, as in a test.
        kind: of KINDS.
        seed: of the draws of the corruption.
    """

    dataset: DetectionDataset
    kind: str
    seed: int

    def __post_init__(self) -> None:
        self.records = self.dataset.records
        # A frozen sensor repeats the first image.
        self.stuck = self.dataset.images(0) if self.kind == FROZEN else None

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Return a sample with "versions": by severity (0: clean), the images by modality, uint8 (channels, H, W)."""
        record, clean = self.records[key[0]], self.dataset.images(key)
        versions = {CLEAN: clean} | {n: self._corrupted(clean, record, n) for n in severities(self.kind)}
        placement = self.dataset.transform.draw((record.height, record.width))
        placed = {severity: self.dataset.transform.place(images, placement) for severity, images in versions.items()}
        return self.dataset.target(key) | {"versions": placed}

    def _corrupted(self, clean: Images, record: DetectionRecord, severity: int) -> Images:
        if self.stuck:
            return {m: F.resize(image, [record.height, record.width]) for m, image in self.stuck.items()}
        return {m: corrupt(image, self.kind, severity, self.seed, record.image_id) for m, image in clean.items()}


def corrupted_loader(data_module: DataModule, part: str, kind: str, seed: int) -> SampleLoader:
    """Return a plain loader over a part whose images are corrupted in one way; see `CorruptedImages`."""
    dataset = data_module.data.dataset(data_module.records(part), train=False)
    return data_module.load(CorruptedImages(dataset, kind, seed))


def _own_channels(whole: Tensor, picture: Tensor) -> Tensor:
    """Return the channels of `whole` (thermal, red, green, blue) that are drawn for a picture of 1 or 3 channels."""
    return whole[:1] if len(picture) == 1 else whole[1:]


def _bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)
