"""The protocol of detection heads: a head owns its losses and its detections.

The detector gives a head the maps of its levels. Anchors or points, training targets and decoding are the head's own,
so that any head serves any detector, and every command.

Shapes: B images, C channels, H_l x W_l cells of level l, N locations over all levels, K classes, V box values.
"""

from typing import Any, Protocol

from torch import Tensor, device

from utils.distributed import SINGLE_PROCESS, Ranks

Maps = list[Tensor]
Detections = list[dict[str, Tensor]]


class Head(Protocol):
    """What detectors, tasks and tools ask of a head; it is a module whose output only the head itself reads."""

    num_classes: int
    num_levels: int

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

    def decode(self, values: Tensor, locations: Tensor) -> Tensor:
        """Return boxes (n, 4) xyxy pixels of the letterboxed image, of values (n, V) and their locations (n, ...)."""


def image_size_of(batch: dict[str, Any]) -> tuple[int, int]:
    """Return height and width of a batch's letterboxed images; pinned memory makes a list of them."""
    height, width = batch["image_size"]
    return height, width
