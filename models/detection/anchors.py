"""Anchor boxes and level sizes of EfficientDet: nine anchors per cell of every pyramid level.

EfficientDet (Tan et al. 2020), section 5, after RetinaNet (Lin et al. 2017), section 4. torchvision's AnchorGenerator
rounds sizes and centres the first anchor at 0, so it gives other anchors.
Shapes: N anchors = sum over levels of rows x columns x NUM_ANCHORS, in that order.
"""

import torch

OCTAVES = (0.0, 1 / 3, 2 / 3)
RATIOS = (1.0, 2.0, 0.5)  # width / height
NUM_ANCHORS = len(OCTAVES) * len(RATIOS)


def level_sizes(image_size: tuple[int, int], num_levels: int) -> list[tuple[int, int]]:
    """Return the size of each pyramid level, halved and rounded up from one level to the next.

    Args:
        image_size: (height, width) in pixels.
        num_levels: how many levels, from P3 up; level l has stride 2 ** l.

    Returns:
        `num_levels` pairs (rows, columns), finest first.
    """
    height, width = image_size
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(3, 3 + num_levels)]


def make_anchors(image_size: tuple[int, int], num_levels: int, anchor_scale: float) -> torch.Tensor:
    """Return all anchors of an image; they may reach over its border.

    Args:
        image_size: (height, width) in pixels.
        num_levels: how many pyramid levels.
        anchor_scale: side of a level's smallest square anchor in strides of that level (published: 4).

    Returns:
        (N, 4) float32 boxes xyxy in pixels, on the CPU, ordered by level, row, column, anchor (octave outermost, then
        ratio).
    """
    levels = [_level_anchors(image_size, size, anchor_scale) for size in level_sizes(image_size, num_levels)]
    return torch.cat(levels).float()


def _level_anchors(image_size: tuple[int, int], size: tuple[int, int], anchor_scale: float) -> torch.Tensor:
    """Return the anchors of one level of `size` (rows, columns): (rows * columns * 9, 4) xyxy, float64."""
    strides = torch.tensor([image_size[1] / size[1], image_size[0] / size[0]], dtype=torch.float64)
    shapes = torch.tensor([(2**s * r**0.5, 2**s / r**0.5) for s in OCTAVES for r in RATIOS], dtype=torch.float64)
    half_sizes = anchor_scale * shapes * strides / 2
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    centres = ((torch.stack([columns, rows], dim=-1) + 0.5) * strides).unsqueeze(2)
    return torch.cat([centres - half_sizes, centres + half_sizes], dim=-1).reshape(-1, 4)
