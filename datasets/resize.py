"""Resizing of images of one channel, for which torch's kernel for bytes is not made.

Shapes: h, w size of the image; H, W that of the result.
"""

import torch
import torchvision
from torchvision.transforms.v2 import functional as F

# Instruction sets for which torchvision has torch resize bytes as such. Up to 0.23 it overlooked AVX512
# (github.com/pytorch/vision/pull/9190) and went by floats there, which round otherwise.
NEWER = tuple(map(int, torchvision.__version__.split(".")[:2])) >= (0, 24)
BYTE_KERNELS = ("AVX2", "AVX512") if NEWER else ("AVX2",)


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
