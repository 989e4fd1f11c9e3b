"""Test samples with their images corrupted in one way: each severity beside the clean images.

Shapes: H, W letterboxed size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from datasets.data_module import DataModule
from datasets.detection.corruptions import FROZEN, corrupt, severities
from datasets.detection.dataset import DetectionDataset, DetectionRecord, Images
from datasets.loader import SampleLoader

CLEAN = 0  # the version that is not corrupted


@dataclass(eq=False)
class CorruptedImages(Dataset):
    """The samples of a dataset with "versions" in place of "images": the images of each severity.

    Args:
        dataset: its transform draws nothing, as in a test.
        kind: of `corruptions.KINDS`.
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
        versions = {severity: self._corrupted(clean, record, severity) for severity in self.severities}
        boxes_xyxy, labels = torch.tensor(record.boxes_xyxy), torch.tensor(record.labels)
        placed = {
            severity: self.dataset.transform(images, boxes_xyxy, labels)["images"]
            for severity, images in ({CLEAN: clean} | versions).items()
        }
        return self.dataset.target(key) | {"versions": placed}

    @property
    def severities(self) -> tuple[int, ...]:
        return severities(self.kind)

    def _corrupted(self, clean: Images, record: DetectionRecord, severity: int) -> Images:
        if self.stuck:
            return {m: F.resize(image, [record.height, record.width]) for m, image in self.stuck.items()}
        return {m: corrupt(image, self.kind, severity, self.seed, record.image_id) for m, image in clean.items()}


def corrupted_loader(data_module: DataModule, part: str, kind: str, seed: int) -> SampleLoader:
    """Return a plain loader over a part whose images are corrupted in one way; see `CorruptedImages`."""
    dataset = data_module.data.dataset(data_module.records(part), train=False)
    return data_module.load(CorruptedImages(dataset, kind, seed))
