"""What every detection data set offers: annotated records of one or more modalities, and facts about them.

`sources.py` turns a folder into `DetectionData`; nothing here depends on a layout or on which modalities there are.

Shapes: N boxes of one image. Boxes are xyxy pixels of the original image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from datasets import images
from datasets.detection import transforms
from datasets.detection.dataset import DetectionDataset, DetectionRecord, collate
from datasets.detection.names import CANVASES
from datasets.detection.transforms import AsDecoded, DetectionTransform, Normalization, fill_from_mean
from datasets.feature_cache import Variant
from datasets.images import Counts
from datasets.loader import EVAL_BATCH_SIZE


@dataclass(frozen=True)
class ImageOptions:
    """How images are prepared: their size, and augmentation as in `DetectionTransform`.

    Args:
        image_size: (height, width) of the letterboxed image; None: images keep their size, for batches of one.
        hflip, scale_jitter, photometric, scales: as in `DetectionTransform`.
        modality_dropout: probability that one modality of a training sample gives a black image.
        canvas: "oriented": portrait images get `image_size` transposed, see `DetectionTransform`.
        short_sides: (lowest, highest) in pixels: in training, an oriented canvas has a short side between, drawn for
            each batch, in place of that of `image_size`.
    """

    image_size: tuple[int, int] | None = (768, 768)
    hflip: float = 0.0
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    photometric: float = 0.0
    modality_dropout: float = 0.0
    scales: tuple[float, ...] = ()
    canvas: str = CANVASES[0]
    short_sides: tuple[int, int] | None = None

    @property
    def oriented(self) -> bool:
        return self.canvas == CANVASES[1]


@dataclass(frozen=True, eq=False)
class DetectionData:
    """An opened detection data set.

    Args:
        name: as `--dataset` has it.
        classes: names of the class channels.
        category_ids: the annotations' id of each class channel.
        records: by list: "train", and "val" and "test" where the data set has them.
        ground_truth: by list, the COCO dict for `utils.coco_eval`. Image ids are unique within one list only.
        notes: by list, counts and remarks for the log.
        channels: of the images of each modality (3 or 1), in the order of the records' paths.
        normalization: (mean of 3, standard deviation of 3) in 0..1 of each modality.
        thermal_counts: 16-bit values that become black and white in images of one channel, where the data set has them.
        warnings: lines on what was left out, or is odd without being wrong.
        options: how images are prepared.
        fold: which fold "test" is, and of how many; None: the lists are those of the data set.
        searched_on_all: as of `Source`.
    """

    name: str
    classes: list[str]
    category_ids: list[int]
    records: dict[str, list[DetectionRecord]]
    ground_truth: dict[str, dict]
    notes: dict[str, dict[str, int | str]]
    channels: dict[str, int]
    normalization: Normalization
    thermal_counts: Counts | None = None
    warnings: tuple[str, ...] = ()
    options: ImageOptions = field(default_factory=ImageOptions)
    fold: tuple[int, int] | None = None
    searched_on_all: bool = False

    cache_batch_size = EVAL_BATCH_SIZE
    cache_repeats_batches = True
    cache_key_modules = (images, transforms)  # from a file to an input
    collate = staticmethod(collate)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.channels)

    @property
    def unit(self) -> str:
        """What a record is called in messages."""
        return "pairs" if len(self.channels) == 2 else "images"

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values that a trained network depends on: it must be tested with the same."""
        return {
            "classes": self.classes,
            "normalization": {m: [list(numbers) for numbers in both] for m, both in self.normalization.items()},
            "thermal_counts": list(self.thermal_counts) if self.thermal_counts else None,
        }

    @property
    def info(self) -> dict[str, dict]:
        """The COCO `info` of each annotation file, by list."""
        return {origin: truth["info"] for origin, truth in self.ground_truth.items()}

    def dataset(self, records: Sequence[DetectionRecord], train: bool) -> DetectionDataset:
        """Return the samples of records: augmented for training, plain otherwise."""
        o = self.options
        drawn = {"scale_jitter": o.scale_jitter, "photometric": o.photometric, "scales": o.scales}
        drawn |= {"oriented": o.oriented}
        transform = (
            DetectionTransform(o.image_size, self.fill, train, o.hflip, **drawn) if o.image_size else AsDecoded()
        )
        dropout = o.modality_dropout if train else 0.0
        return DetectionDataset(list(records), transform, self.channels, self.thermal_counts, dropout)

    @property
    def fill(self) -> dict[str, list[int]]:
        """The colour of each modality beside a letterboxed image."""
        return fill_from_mean(self.normalization, self.channels)

    @property
    def cache_facts(self) -> dict[str, Any]:
        """Plain values that decide how plain images are prepared."""
        facts = {"image_size": self.options.image_size, "fill": self.fill, "thermal_counts": self.thermal_counts}
        return facts | ({"canvas": self.options.canvas} if self.options.oriented else {})

    @property
    def changing(self) -> str:
        """Why the images of a training differ in each epoch, so that their features cannot be kept; "" if not."""
        reason = "changes every image anew in each epoch, so its features cannot be kept"
        low, high = self.options.scale_jitter
        if (low, high) != (1, 1):
            return f"--scale_jitter {low:g} {high:g} {reason}: expected 1 1"
        if self.options.short_sides:
            low, high = self.options.short_sides
            return f"--short_sides {low} {high} {reason}: expected none"
        return f"--photometric {self.options.photometric:g} {reason}: expected 0" if self.options.photometric else ""

    def variants(self, records: Sequence[DetectionRecord], train: bool) -> list[tuple[DetectionRecord, Variant]]:
        """Return every image that will be read, and where training drops modalities a black one of each size."""
        flips = {0.0: [False], 1.0: [True]}.get(self.options.hflip, [False, True]) if train else [False]
        scales = list(dict.fromkeys(self.options.scales)) if train and self.options.scales else [1.0]
        variants = [(record, Variant(flip, scale=scale)) for record in records for scale in scales for flip in flips]
        dropped = train and self.options.modality_dropout
        sizes = {(record.width, record.height): record for record in records} if dropped else {}
        return variants + [(record, Variant(black=True, scale=scale)) for record in sizes.values() for scale in scales]

    def variant_dataset(self, records: Sequence[DetectionRecord], variant: Variant) -> DetectionDataset:
        """Return the images of records, all changed alike; an image id is the place in the list."""
        changed, drawn = variant.flip or variant.scale != 1, {"hflip": float(variant.flip), "scales": (variant.scale,)}
        drawn |= {"oriented": self.options.oriented}
        transform = DetectionTransform(self.options.image_size, self.fill, train=changed, **drawn)
        numbered = [replace(record, image_id=place) for place, record in enumerate(records)]
        return DetectionDataset(numbered, transform, self.channels, self.thermal_counts, blank=variant.black)

    def example_inputs(self, records: Sequence[DetectionRecord]) -> dict[str, torch.Tensor]:
        """Return black images, uint8 (1, channels, H, W); no file is opened."""
        size = self.options.image_size
        return {m: torch.zeros(1, count, *size, dtype=torch.uint8) for m, count in self.channels.items()}
