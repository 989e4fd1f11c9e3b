"""Test pairs with their pictures corrupted in one way, each severity beside the clean picture.

Shapes: h, w original size; H, W letterboxed size.
"""

from typing import Any

import torch
from torchvision.transforms.v2 import functional as F

from datasets.detection.corruptions import FROZEN, corrupt, severities
from datasets.detection.paired_detection import PairedDetectionDataset, PairRecord, PairsOf, load_pair

CLEAN = 0  # the version that is not corrupted


class CorruptedPairs(PairsOf):
    """The samples of a dataset with "versions" in the place of "rgb" and "thermal": these of each severity.

    Args:
        dataset: its transform makes no draws, as that of a test.
        kind: of `corruptions.KINDS`.
        seed: of the draws of the corruption.
    """

    def __init__(self, dataset: PairedDetectionDataset, kind: str, seed: int):
        super().__init__(dataset)
        self.kind, self.seed = kind, seed
        # A sensor that hangs gives what it saw at the beginning.
        self.stuck = load_pair(dataset.records[0], dataset.thermal_counts) if kind == FROZEN else None

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Give a sample; "versions" has {"rgb": uint8 (3, H, W), "thermal": uint8 (1, H, W)} by severity, 0: clean."""
        record, sample = self.records[key[0]], self.dataset.target(key)
        pair = load_pair(record, self.dataset.thermal_counts)
        versions = {CLEAN: pair} | {severity: self._corrupted(pair, record, severity) for severity in self.severities}
        boxes_xyxy, labels = torch.tensor(record.boxes_xyxy), torch.tensor(record.labels)
        placed = {v: self.dataset.transform(*pair, boxes_xyxy, labels) for v, pair in versions.items()}
        return sample | {"versions": {v: {m: made[m] for m in ("rgb", "thermal")} for v, made in placed.items()}}

    @property
    def severities(self) -> tuple[int, ...]:
        return severities(self.kind)

    def _corrupted(
        self, pair: tuple[torch.Tensor, torch.Tensor], record: PairRecord, severity: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.stuck:
            rgb, thermal = (F.resize(picture, [record.height, record.width]) for picture in self.stuck)
            return rgb, thermal
        rgb, thermal = (corrupt(picture, self.kind, severity, self.seed, record.image_id) for picture in pair)
        return rgb, thermal
