"""Points of FCOS and their training targets: which point learns which box, and how far its sides are.

FCOS (Tian et al. 2019, 1904.01355), section 3, with centre sampling ("imprv"). torchvision's FCOS differs: points at
the corners of cells, open ranges, and boxes that are taken for ties when their areas differ by less than 8 px.
All images are matched at once and no value is read back from the device, so a GPU does not stall.

Shapes: B images, N points over all levels, M boxes of an image; an image with fewer is padded with label -1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.detection.anchors import level_sizes

RADIUS = 1.5  # strides from the centre of a box
LOWER, UPPER = 4.0, 8.0  # range of a level in strides: 64..128 px at stride 16


class PointTargets(NamedTuple):
    """`classes`: (B, N) int64, -1 for background. `distances`: (B, N, 4), left, top, right, bottom in strides.

    `centerness`: (B, N) in 0..1. For background, distances are 1 and the centre-ness is 0.
    """

    classes: Tensor
    distances: Tensor
    centerness: Tensor


def make_points(image_size: tuple[int, int], num_levels: int) -> Tensor:
    """Return all points of an image, the centres of the cells of its levels.

    Args:
        image_size: (height, width) in pixels.
        num_levels: how many pyramid levels, from P3 up.

    Returns:
        (N, 3) float32: x and y in pixels and the stride, by level, row, column.
    """
    sizes = level_sizes(image_size, num_levels)
    return torch.cat([_level_points(size, 2**level) for level, size in enumerate(sizes, 3)])


def _level_points(size: tuple[int, int], stride: int) -> Tensor:
    rows, columns = (torch.arange(n) + 0.5 for n in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1) * stride


def assign_points(points: Tensor, boxes_xyxy: Tensor, labels: Tensor, radius: float | None = RADIUS) -> PointTargets:
    """Assign the boxes of a batch to points.

    Args:
        points: (N, 3) of `make_points`.
        boxes_xyxy: (B, M, 4) pixels with x1 < x2 and y1 < y2, on the points' device; M at least 1.
        labels: (B, M) int64 class channels; -1 for padding.
        radius: how near to the centre of its box a positive point is, in strides; None: anywhere in the box.
    """
    owned = match_points(points, boxes_xyxy, labels >= 0, radius)
    background, box = owned < 0, owned.clamp(min=0)
    classes = labels.gather(1, box).masked_fill_(background, -1)
    boxes = boxes_xyxy.gather(1, box[..., None].expand(-1, -1, 4))
    distances = torch.stack(_distances(points, boxes), dim=-1) / points[:, 2:]
    distances.masked_fill_(background[..., None], 1)
    return PointTargets(classes, distances, _centerness(distances).masked_fill_(background, 0))


def match_points(points: Tensor, boxes_xyxy: Tensor, exists: Tensor, radius: float | None) -> Tensor:
    """Find the box of its image that each point learns: the smallest of those that it is positive for.

    A point is positive for a box that it lies strictly inside of, strictly nearer to its centre than `radius` in x and
    in y, and whose farthest side is within the range of the level, ends included.

    Args:
        points, boxes_xyxy, radius: as of `assign_points`.
        exists: (B, M) bool, false for padding.

    Returns:
        (B, N) int64 box index, -1 for background. Of boxes of one area, the first wins.
    """
    lower, upper = _ranges(points[:, 2])
    areas = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).prod(-1).masked_fill(~exists, torch.inf)
    smallest = areas.new_full((len(areas), len(points)), torch.inf)
    owned = torch.full_like(smallest, -1, dtype=torch.int64)
    for number in range(areas.shape[1]):
        box = boxes_xyxy[:, number, None]
        left, top, right, bottom = _distances(points, box)
        nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
        farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
        positive = (nearest > 0) & (farthest >= lower) & (farthest <= upper)
        if radius is not None:
            positive &= _from_centre(points, box) < radius * points[:, 2]
        positive &= areas[:, number, None] < smallest
        owned.masked_fill_(positive, number)
        smallest = areas[:, number, None].where(positive, smallest)
    return owned


def _ranges(strides: Tensor) -> tuple[Tensor, Tensor]:
    """Return the range of each point in pixels; it has no lower end on the finest level, no upper on the coarsest."""
    lower = (LOWER * strides).masked_fill(strides == strides.min(), -1)
    return lower, (UPPER * strides).masked_fill(strides == strides.max(), torch.inf)


def _distances(points: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pixels from points to the left, top, right and bottom side of boxes (B, N or 1, 4), (B, N) each."""
    (x, y, _), (x1, y1, x2, y2) = points.unbind(-1), boxes_xyxy.unbind(-1)
    return x - x1, y - y1, x2 - x, y2 - y


def _from_centre(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Return the pixels from points to the centre of a box (B, 1, 4) per image, in x or in y, the larger one."""
    centres = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    return torch.maximum((points[:, 0] - centres[..., 0]).abs(), (points[:, 1] - centres[..., 1]).abs())


def _centerness(distances: Tensor) -> Tensor:
    """Return the centre-ness (B, N) of distances (B, N, 4): equation 3."""
    left, top, right, bottom = distances.unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    return (across * (torch.minimum(top, bottom) / torch.maximum(top, bottom))).sqrt()
