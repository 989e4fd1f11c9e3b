"""Aligned RGB-thermal pairs with boxes: records, what a data set offers, and the torch Dataset over them.

`sources.py` turns a folder into `PairedData`; nothing here knows a layout. Thermal files have one channel or three
equal ones and always leave here with one. All randomness of a sample comes from the seed in its key, so a sample does
not depend on the number of workers nor on what was drawn before.

Shapes: H, W letterboxed size; N boxes of one image. Boxes are xyxy pixels; record boxes in the original image, sample
boxes in the letterboxed one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.detection.paired_transforms import PairTransform
from datasets.images import Counts, read_rgb, read_thermal
from utils.errors import UserError

Normalization = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
DROPOUT_DRAWS = (1,)  # the place of these draws among those that follow from the seed of a sample


@dataclass(frozen=True, eq=False)
class PairRecord:
    """One pair, with its annotated file name.

    Boxes (N, 4) are float32, clipped to the image, labels (N,) int64 channels.

    Boxes are NumPy arrays, since thousands of tensors cannot be sent to spawned workers (one file handle each).
    """

    image_id: str | int
    file_name: str
    rgb_path: str
    thermal_path: str
    width: int
    height: int
    boxes_xyxy: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class PairedData:
    """What every RGB-thermal data set offers.

    `category_ids[k]` is the file's id of class channel k, named `classes[k]`. `records`, `ground_truth` (COCO dict for
    `utils.coco_eval`) and `notes` (counts and remarks for the log) have the keys "train" and "test", and "val" where
    the data set brings its own val list. Image ids are unique within one of these only. `normalization` gives (mean of
    3, standard deviation of 3) in 0..1 for "rgb" and "thermal"; `thermal_counts` the 16-bit values that become black
    and white, where the data set names them. `warnings` are lines on what was left out or is odd without being wrong.
    """

    name: str
    classes: list[str]
    category_ids: list[int]
    records: dict[str, list[PairRecord]]
    ground_truth: dict[str, dict]
    notes: dict[str, dict[str, int | str]]
    normalization: Normalization
    thermal_counts: Counts | None = None
    warnings: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What a network learns beside the pairs, in plain values: it must be tested with the same."""
        return {
            "classes": self.classes,
            "normalization": {m: [list(numbers) for numbers in both] for m, both in self.normalization.items()},
            "thermal_counts": list(self.thermal_counts) if self.thermal_counts else None,
        }

    @property
    def info(self) -> dict[str, dict]:
        """What each annotation file says of itself: its COCO `info`, by the keys of `ground_truth`."""
        return {origin: truth["info"] for origin, truth in self.ground_truth.items()}


def merge_val(data: PairedData) -> PairedData:
    """Append the data set's own val list, where it has one, to its training list.

    Args:
        data: with file names that are in one list only.
    Returns:
        The data without "val" in `records` and `ground_truth`. The image ids of "train" are then file names, since two
        files may number their images alike; its `info` is that of the training list.
    """
    if "val" not in data.records:
        return data
    records = [replace(r, image_id=r.file_name) for origin in ("train", "val") for r in data.records[origin]]
    images, annotations = [], []
    for origin in ("train", "val"):
        truth = data.ground_truth[origin]
        names = {record.image_id: record.file_name for record in data.records[origin]}
        images += [{**image, "id": names[image["id"]]} for image in truth["images"]]
        annotations += [{**item, "image_id": names[item["image_id"]]} for item in truth["annotations"]]
    annotations = [{**item, "id": number} for number, item in enumerate(annotations, 1)]
    merged = {**data.ground_truth["train"], "images": images, "annotations": annotations}
    return replace(
        data,
        records={"train": records, "test": data.records["test"]},
        ground_truth={"train": merged, "test": data.ground_truth["test"]},
    )


class PairedDetectionDataset(Dataset):
    """Decode pairs and transform them.

    Args:
        records: the pairs.
        transform: makes the samples, and the boxes alone.
        thermal_counts: as in `PairedData`.
        dropout: probability that one of the two sensors, each as often, gives a black picture.
        load: gives the pictures of a record as `load_pair` does.
    """

    def __init__(
        self,
        records: list[PairRecord],
        transform: PairTransform,
        thermal_counts: Counts | None = None,
        dropout: float = 0.0,
        load: Callable[[PairRecord, Counts | None], tuple[torch.Tensor, torch.Tensor]] | None = None,
    ):
        self.records = records
        self.transform = transform
        self.thermal_counts = thermal_counts
        self.dropout = dropout
        self.load = load or load_pair

    def __len__(self) -> int:
        return len(self.records)

    def name_of(self, index: int) -> str:
        return self.records[index].file_name

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Give one sample.

        Args:
            key: an index (its draws use seed 0), or (index, seed).
        Returns:
            "rgb" uint8 (3, H, W), "thermal" uint8 (1, H, W), "boxes_xyxy" float32 (N, 4), "labels" int64 (N,),
            "image_id", "file_name", "scale" (letterboxed = original * scale), "flip", "original_size" (height, width).
        Raises:
            UserError: a file cannot be decoded, or its size or channels are not as expected.
        """
        record, seed = self._find(key)
        rgb, thermal = self.load(record, self.thermal_counts)
        black = self.black(key)
        rgb, thermal = (x.new_zeros(x.shape) if m == black else x for m, x in (("rgb", rgb), ("thermal", thermal)))
        with _draws_from(seed):
            sample = self.transform(rgb, thermal, torch.tensor(record.boxes_xyxy), torch.tensor(record.labels))
        return {**sample, **named(record), "original_size": (record.height, record.width)}

    def black(self, key: int | tuple[int, int]) -> str | None:
        """Return which sensor gives a black picture in the sample of a key, "rgb" or "thermal"; None: neither.

        The draws are apart from those of the transform, which are the same with and without `dropout`.
        """
        if not self.dropout:
            return None
        _, seed = self._find(key)
        chance, which = np.random.SeedSequence(seed, spawn_key=DROPOUT_DRAWS).generate_state(2).tolist()
        return ("rgb", "thermal")[which % 2] if chance < self.dropout * 2**32 else None

    def target(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Give the sample of a key without "rgb" and "thermal", by the same draws; no file is opened."""
        record, seed = self._find(key)
        size = (record.height, record.width)
        boxes_xyxy, labels = torch.tensor(record.boxes_xyxy), torch.tensor(record.labels)
        with _draws_from(seed):
            placement = self.transform.draw(size)
        boxes_xyxy, labels = self.transform.move_boxes(boxes_xyxy, labels, size, placement)
        sample = {"boxes_xyxy": boxes_xyxy, "labels": labels, "scale": placement.scale, "flip": placement.flip}
        return {**sample, **named(record), "original_size": size}

    def _find(self, key: int | tuple[int, int]) -> tuple[PairRecord, int]:
        index, seed = key if isinstance(key, tuple) else (key, 0)
        return self.records[index], seed


class PairsOf(Dataset):
    """Other samples of the pairs of a dataset."""

    def __init__(self, dataset: PairedDetectionDataset):
        self.dataset = dataset

    @property
    def records(self) -> list[PairRecord]:
        return self.dataset.records

    def name_of(self, index: int) -> str:
        return self.dataset.name_of(index)

    def __len__(self) -> int:
        return len(self.dataset)


def named(record: PairRecord) -> dict[str, Any]:
    """Give what a sample says of where it is from."""
    return {"image_id": record.image_id, "file_name": record.file_name}


@contextmanager
def _draws_from(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for a while."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reseed the GPUs, which nothing here restores.
        torch.default_generator.manual_seed(seed)
        yield


def load_pair(record: PairRecord, thermal_counts: Counts | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode rgb (3, h, w) and thermal (1, h, w), uint8, of the annotated size; UserError where a file is not so.

    Args:
        thermal_counts: as in `PairedData`.
    """
    rgb = read_rgb(record.rgb_path)
    thermal = read_thermal(record.thermal_path, thermal_counts)
    for path, image in ((record.thermal_path, thermal), (record.rgb_path, rgb)):
        height, width = image.shape[-2:]
        if (width, height) != (record.width, record.height):
            expected = f"{record.width}x{record.height} px, as annotated for {record.file_name} and as its partner"
            raise UserError(f"{path}: size: expected {expected}, found {width}x{height} px")
    return rgb, thermal


def black_pair(record: PairRecord, thermal_counts: Counts | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Give what `load_pair` gives of two dead sensors: uint8 (3, h, w) and (1, h, w) of zeros."""
    size = record.height, record.width
    return torch.zeros(3, *size, dtype=torch.uint8), torch.zeros(1, *size, dtype=torch.uint8)
