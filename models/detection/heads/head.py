"""The protocol of detection heads: a head owns its losses and its detections.

The detector gives a head the maps of its levels. Anchors or points, training targets and decoding are the head's own,
so that any head serves any detector, and every command.

Shapes: B images, C channels, H_l x W_l cells of level l, N locations over all levels, K classes, V box values,
k candidates.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, device, nn

from utils.distributed import SINGLE_PROCESS, Ranks

Maps = list[Tensor]
Detections = list[dict[str, Tensor]]


class Head(Protocol):
    """What detectors, tasks and tools ask of a head; it is a module whose output only the head itself reads."""

    num_classes: int
    num_levels: int
    nms_iou: float  # of two boxes of a class of which one is left out
    keeps_empty_boxes: bool  # boxes that have no area inside of the image

    def __call__(self, class_maps: Maps, box_maps: Maps | None = None) -> Any:
        """Predict from the maps (B, C, H_l, W_l) of each level; `box_maps`: where a tower made others for the boxes."""

    def losses(self, output: Any, batch: dict[str, Any], ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return scalars by name, of which "loss" is minimised.

        Args:
            output: of the head for a batch, or for this rank's share of one.
            batch: of the loader: "image_size", "boxes_xyxy" (B, M, 4) and "labels" (B, M), -1 where there is no box.
            ranks: that share the batch; the mean of their losses is that of the whole batch.
        """

    def detect(self, output: Any, batch: dict[str, Any]) -> Detections:
        """Return per image "boxes_xyxy" (n, 4) in pixels of the original image, "scores" (n,) and "labels" (n,).

        Args:
            output: of the head for a batch.
            batch: of the loader: "image_size", "scales" (B,) and "original_sizes" (B, 2).
        """

    def flatten(self, output: Any) -> tuple[Tensor, Tensor]:
        """Return class logits (B, N, K) and box values (B, N, V)."""

    def locations(self, image_size: tuple[int, int], device: device | str = "cpu") -> Tensor:
        """Return what box values are relative to, such as anchors: (N, ...), in the order of `flatten`."""

    def candidates(self, logits: Tensor, values: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores (B, k) of what detections are chosen from, 0 for none, their locations and their classes.

        Args:
            logits, values: of `flatten`.
            image_size: (height, width) of the letterboxed images.
        """

    def decode(self, values: Tensor, locations: Tensor) -> Tensor:
        """Return boxes (n, 4) xyxy pixels of the letterboxed image, of values (n, V) and their locations (n, ...)."""


def image_size_of(batch: dict[str, Any]) -> tuple[int, int]:
    """Return height and width of a batch's letterboxed images; pinned memory makes a list of them."""
    height, width = batch["image_size"]
    return height, width


def flatten_levels(levels: Maps, per_location: int) -> Tensor:
    """Return head maps in the order of locations: by level, row, column, and anchor where a cell has several (A).

    Args:
        levels: per level (B, A * per_location, H_l, W_l).
        per_location: values per location, such as K or 4.

    Returns:
        (B, N, per_location).
    """
    flat = [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, per_location) for level in levels]
    return torch.cat(flat, dim=1)


def precise(x: Tensor) -> Tensor:
    """Return x in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def init_normal(conv: nn.Conv2d, bias: float = 0.0) -> None:
    """Start a convolution with bias as in RetinaNet (Lin et al. 2017, section 4.1): normal of deviation 0.01."""
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)
