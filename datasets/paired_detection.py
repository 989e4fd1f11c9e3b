"""Aligned RGB-thermal pairs with boxes: records, what a data set offers, and the torch Dataset over them.

A data set file (`flir_aligned.py`, ...) turns a folder into `PairedData`; nothing here knows its layout. Thermal
files have one channel or three equal ones and always leave here with one. All randomness of a sample comes from the
seed in its key, so a sample does not depend on the number of workers nor on what was drawn before.

Shapes: H, W letterboxed size; N boxes of one image. Boxes are xyxy pixels; record boxes in the original image, sample
boxes in the letterboxed one.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_image

from datasets.coco_json import AnnotatedImage
from utils.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_GREY_DIFFERENCE = 8  # levels of 255 by which the channels of a grey picture may differ after JPEG


@dataclass(frozen=True, eq=False)
class PairRecord:
    """One pair: `file_name` as annotated (thermal), boxes (N, 4) float32 clipped to the image, labels (N,) int64
    channels.

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
    3, standard deviation of 3) in 0..1 for "rgb" and "thermal".
    """

    name: str
    classes: list[str]
    category_ids: list[int]
    records: dict[str, list[PairRecord]]
    ground_truth: dict[str, dict]
    notes: dict[str, dict[str, int | str]]
    normalization: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]

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
    for truth in (data.ground_truth["train"], data.ground_truth["val"]):
        names = {image["id"]: image["file_name"] for image in truth["images"]}
        images += [{**image, "id": image["file_name"]} for image in truth["images"]]
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
        transform: called as (rgb (3, h, w), thermal (1, h, w), boxes_xyxy (N, 4), labels (N,)), returns the sample
            dict without "image_id" and "original_size", as `paired_transforms.PairTransform`.
    """

    def __init__(self, records: list[PairRecord], transform: Callable[..., dict[str, Any]]):
        self.records = records
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Give one sample.

        Args:
            key: an index (its draws use seed 0), or (index, seed).
        Returns:
            "rgb" uint8 (3, H, W), "thermal" uint8 (1, H, W), "boxes_xyxy" float32 (N, 4), "labels" int64 (N,),
            "image_id", "scale" (letterboxed = original * scale), "original_size" (height, width).
        Raises:
            UserError: a file cannot be decoded, or its size or channels are not as expected.
        """
        index, seed = key if isinstance(key, tuple) else (key, 0)
        record = self.records[index]
        rgb, thermal = load_pair(record)
        boxes_xyxy, labels = torch.tensor(record.boxes_xyxy), torch.tensor(record.labels)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also reseed the GPUs, which nothing here restores.
            torch.default_generator.manual_seed(seed)
            sample = self.transform(rgb, thermal, boxes_xyxy, labels)
        return {**sample, "image_id": record.image_id, "original_size": (record.height, record.width)}


def load_pair(record: PairRecord) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode rgb (3, h, w) and thermal (1, h, w), uint8, of the annotated size; UserError where a file is not so."""
    rgb = _decode(record.rgb_path, ImageReadMode.RGB)
    thermal = _one_channel(_decode(record.thermal_path, ImageReadMode.UNCHANGED), record.thermal_path)
    for path, image in ((record.thermal_path, thermal), (record.rgb_path, rgb)):
        height, width = image.shape[-2:]
        if (width, height) != (record.width, record.height):
            expected = f"{record.width}x{record.height} px, as annotated for {record.file_name} and as its partner"
            raise UserError(f"{path}: size: expected {expected}, found {width}x{height} px")
    return rgb, thermal


def _decode(path: str, mode: ImageReadMode) -> torch.Tensor:
    try:
        image = decode_image(path, mode=mode)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: expected a JPEG or PNG image, found one that cannot be decoded ({reason})") from error
    if image.dtype != torch.uint8:
        raise UserError(f"{path}: expected 8 bits per channel, found {image.dtype}")
    return image


def _one_channel(image: torch.Tensor, path: str) -> torch.Tensor:
    if len(image) <= 2:  # a second or fourth channel is opacity
        return image[:1].contiguous()
    red, green, blue = image[:3].short()
    difference = max((red - green).abs().max().item(), (green - blue).abs().max().item())
    if difference > MAX_GREY_DIFFERENCE:
        found = f"channels that differ by up to {difference} of 255"
        raise UserError(f"{path}: expected a thermal image with one channel or three equal ones, found {found}")
    return image[:1].contiguous()


def pair_images(
    images: list[AnnotatedImage], rgb_folder: Path, thermal_folder: Path, rgb_stem: Callable[[str], str]
) -> list[PairRecord]:
    """Find both files of each annotated image by name, whatever their image suffix; no file is opened.

    Args:
        images: the annotated (thermal) images.
        rgb_folder, thermal_folder: where the files lie; may be one folder.
        rgb_stem: gives the RGB name from the thermal name, both without suffix.
    Returns:
        The pairs, in the order of `images`.
    Raises:
        UserError: a folder or an image is missing in one modality.
    """
    stems = [PurePosixPath(image.file_name).stem for image in images]
    thermal_paths = _find(thermal_folder, stems, "thermal")
    rgb_paths = _find(rgb_folder, [rgb_stem(stem) for stem in stems], "RGB")
    return [
        PairRecord(i.image_id, i.file_name, rgb_path, thermal_path, i.width, i.height, i.boxes_xyxy, i.labels)
        for i, rgb_path, thermal_path in zip(images, rgb_paths, thermal_paths)
    ]


def _find(folder: Path, stems: list[str], modality: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            paths = sorted((entry.name, entry.path) for entry in entries)
    except OSError as error:
        raise UserError(f"{folder}: expected the folder of the {modality} images ({error.strerror})") from error
    known = {Path(name).stem: path for name, path in paths if Path(name).suffix.lower() in IMAGE_SUFFIXES}
    missing = [stem for stem in stems if stem not in known]
    if missing:
        wanted = f"{missing[0]}{{{','.join(IMAGE_SUFFIXES)}}}"
        more = f"; {len(missing) - 1} more {modality} images are missing" if len(missing) > 1 else ""
        raise UserError(f"{folder}: expected the {modality} image {wanted}, found none{more}")
    return [known[stem] for stem in stems]
