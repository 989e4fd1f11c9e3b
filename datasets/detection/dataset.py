"""The torch Dataset over detection records, decoded, transformed images with their boxes, and batches of its samples.

All randomness of a sample comes from the seed in its key, so a sample does not depend on the number of workers nor on
what was drawn before.

Shapes: H, W letterboxed size; N boxes of one image. Boxes are xyxy pixels; record boxes in the original image, sample
boxes in the letterboxed one. Of a batch: B its size; M the most boxes of one image, at least 1; S streams; K maps of
one shape per stream (R taps of a level, or 1 encoder map) of C channels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.detection.transforms import COLOUR, AsDecoded, DetectionTransform, is_portrait
from datasets.images import Counts, read_rgb, read_thermal
from utils.errors import UserError

Images = dict[str, Tensor]  # by modality
DROPOUT_DRAWS = (1,)  # the place of these draws among those that follow from the seed of a sample


@dataclass(frozen=True, eq=False)
class DetectionRecord:
    """The images of one scene and its boxes.

    Boxes are NumPy arrays, since thousands of tensors cannot be sent to spawned workers (one file handle each).

    Args:
        image_id: as in the annotations.
        file_name: as annotated; unique in the data set.
        paths: the image file of each modality.
        width, height: of every image, in pixels.
        boxes_xyxy: float32 (N, 4), clipped to the image.
        labels: int64 (N,) class channels.
    """

    image_id: str | int
    file_name: str
    paths: dict[str, str]
    width: int
    height: int
    boxes_xyxy: np.ndarray
    labels: np.ndarray

    @property
    def name(self) -> str:
        return self.file_name

    @property
    def content(self) -> bytes:
        """What is learned from the record, but for pixels."""
        fields = f"{self.file_name!r} {self.width} {self.height}".encode()
        return fields + self.boxes_xyxy.tobytes() + self.labels.tobytes()

    @property
    def is_portrait(self) -> bool:
        return is_portrait(self.height, self.width)

    @property
    def excerpt(self) -> str:
        """What of the files is shown: all, at the annotated size."""
        return f"{self.width}x{self.height}"


def load_images(record: DetectionRecord, channels: dict[str, int], counts: Counts | None = None) -> Images:
    """Decode the images of a record as uint8 (channels, h, w), of the annotated size.

    Args:
        record: its files are read.
        channels: of the images of each modality: 3 in colours, 1 in grey.
        counts: 16-bit values that become black and white in grey images; see `images.read_thermal`.
    Raises:
        UserError: a file cannot be decoded, or its size or channels are not as expected.
    """
    images = {m: read_rgb(p) if channels[m] == COLOUR else read_thermal(p, counts) for m, p in record.paths.items()}
    for modality in reversed(images):
        height, width = images[modality].shape[-2:]
        if (width, height) != (record.width, record.height):
            partner = " and as its partner" if len(images) > 1 else ""
            expected = f"{record.width}x{record.height} px, as annotated for {record.file_name}{partner}"
            raise UserError(f"{record.paths[modality]}: size: expected {expected}, found {width}x{height} px")
    return images


@dataclass(eq=False)
class DetectionDataset(Dataset):
    """Decode records and transform them.

    Args:
        records: what to give.
        transform: makes the samples, and the boxes alone.
        channels: of the images of each modality.
        counts: as of `load_images`.
        dropout: probability that one of the modalities, each as often, gives a black image.
        blank: all images are black, of the annotated size; no file is opened.
    """

    records: list[DetectionRecord]
    transform: DetectionTransform | AsDecoded
    channels: dict[str, int]
    counts: Counts | None = None
    dropout: float = 0.0
    blank: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, ...]) -> dict[str, Any]:
        """Return one sample.

        Args:
            key: an index (its draws use seed 0), (index, seed), or (index, seed, short side of an oriented canvas).
        Returns:
            "images" by modality, uint8 (channels, H, W), "boxes_xyxy" float32 (N, 4), "labels" int64 (N,), "image_id",
            "file_name", "scale" (letterboxed = original * scale), "flip", "factor", "original_size" (height, width),
            "image_size" (H, W), "black" as of `black`.
        Raises:
            UserError: as `load_images`.
        """
        return self._sample(key, self.images(key))

    def images(self, key: int | tuple[int, ...]) -> Images:
        """Return the decoded images of a key, with a black one where `dropout` draws it."""
        record, _ = self._find(key)
        if self.blank:
            size = record.height, record.width
            return {m: torch.zeros(self.channels[m], *size, dtype=torch.uint8) for m in record.paths}
        images, black = load_images(record, self.channels, self.counts), self.black(key)
        return {modality: torch.zeros_like(image) if modality == black else image for modality, image in images.items()}

    def black(self, key: int | tuple[int, ...]) -> str | None:
        """Return the modality whose image is black in the sample of a key; None: no modality.

        The draws are apart from those of the transform, which are the same with and without `dropout`.
        """
        record, seed = self._find(key)
        chance, which = np.random.SeedSequence(seed, spawn_key=DROPOUT_DRAWS).generate_state(2).tolist()
        return list(record.paths)[which % len(record.paths)] if chance < self.dropout * 2**32 else None

    def target(self, key: int | tuple[int, ...]) -> dict[str, Any]:
        """Return the sample of a key without its images, by the same draws; no file is opened."""
        return self._sample(key, {})

    def _sample(self, key: int | tuple[int, ...], images: Images) -> dict[str, Any]:
        record, seed = self._find(key)
        size = (record.height, record.width)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also reseed the GPUs, which nothing here restores.
            torch.default_generator.manual_seed(seed)
            placement = self.transform.draw(size, *(key[2:] if isinstance(key, tuple) else ()))
            placed = {"images": self.transform.place(images, placement)} if images else {}
        targets = self.transform.targets(torch.tensor(record.boxes_xyxy), torch.tensor(record.labels), size, placement)
        origin = {"image_id": record.image_id, "file_name": record.file_name, "original_size": size}
        return placed | targets | origin | {"black": self.black(key)}

    def _find(self, key: int | tuple[int, ...]) -> tuple[DetectionRecord, int]:
        index, seed = key[:2] if isinstance(key, tuple) else (key, 0)
        return self.records[index], seed


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join samples of one size.

    Args:
        samples: as from `DetectionDataset`, `CachedDataset` or `CorruptedImages`.
    Returns:
        As of `collate_targets`, with "images": {modality: uint8 (B, channels, H, W)}, or in
        their place "features" as of `join_features`, or "versions" with images by severity.
    """
    batch = collate_targets(samples)
    if "features" in samples[0]:
        return batch | {"features": join_features(samples)}
    if "versions" in samples[0]:
        severities = samples[0]["versions"]
        return batch | {"versions": {n: _join([sample["versions"][n] for sample in samples]) for n in severities}}
    return batch | {"images": _join([sample["images"] for sample in samples])}


def collate_targets(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join everything of the samples but their images.

    Args:
        samples: as from `DetectionDataset`; "images" is not read.
    Returns:
        "boxes_xyxy": float32 (B, M, 4) and "labels": int64 (B, M), filled up with zero boxes of label -1;
        "image_ids", "file_names": lists, "scales": float32 (B,), "original_sizes": int64 (B, 2) as (height, width),
        "image_size" (H, W).
    """
    most = max(1, *(len(sample["labels"]) for sample in samples))
    boxes_xyxy, labels = torch.zeros(len(samples), most, 4), torch.full((len(samples), most), -1)
    for i, sample in enumerate(samples):
        boxes_xyxy[i, : len(sample["labels"])] = sample["boxes_xyxy"]
        labels[i, : len(sample["labels"])] = sample["labels"]
    return {
        "boxes_xyxy": boxes_xyxy,
        "labels": labels,
        "image_ids": [sample["image_id"] for sample in samples],
        "file_names": [sample["file_name"] for sample in samples],
        "scales": torch.tensor([sample["scale"] for sample in samples], dtype=torch.float32),
        "original_sizes": torch.tensor([sample["original_size"] for sample in samples], dtype=torch.int64),
        "image_size": samples[0]["image_size"],
    }


def join_features(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join cached features into what a detector reads in place of images.

    Args:
        samples: with "features" {stream: maps (K, H, W, C)}, their "kind", and "image_size".
    Returns:
        {kind: maps (S * K, B, C, H, W), "image_size"}.
    """
    by_map = zip(*(zip(*sample["features"].values()) for sample in samples))
    portrait = is_portrait(*samples[0]["image_size"])
    joined = [_join_maps(maps, portrait) for maps in by_map]
    return {samples[0]["kind"]: joined, "image_size": samples[0]["image_size"]}


def _join_maps(samples: tuple[tuple[Tensor, ...], ...], portrait: bool) -> Tensor:
    """Join B samples of S maps (K, H, W, C) each into (S * K, B, C, H, W), channels last in memory.

    `portrait`: H is the longer side. A store gives all maps in one shape; those of the other orientation have as many
    numbers.
    """
    streams, (count, *sides, channels) = len(samples[0]), samples[0][0].shape
    shape = count, *sorted(sides, reverse=portrait), channels
    joined = torch.empty(streams * count, len(samples), *shape[1:], dtype=samples[0][0].dtype)
    for place, maps in enumerate(samples):
        for stream, features in enumerate(maps):
            joined[stream * count : (stream + 1) * count, place] = features.view(shape)
    return joined.movedim(-1, 2)


def _join(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join images (C, H, W) of each modality into (B, C, H, W), channels last in memory like each of them."""
    return {m: torch.stack([images[m].permute(1, 2, 0) for images in samples]).permute(0, 3, 1, 2) for m in samples[0]}
