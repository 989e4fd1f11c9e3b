"""Batches of RGB-thermal samples that depend on (seed, epoch) only, never on the number of workers.

Each sample carries its own seed, so it can be made anywhere at any time: resumed and whole runs see the same.

Shapes: B batch; H, W letterboxed size; N_i boxes of image i. Boxes are xyxy pixels of the letterboxed image.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from datasets.paired_detection import PairedDetectionDataset


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join samples of one size.

    Args:
        samples: as from `PairedDetectionDataset`.
    Returns:
        "images": {"rgb": uint8 (B, 3, H, W), "thermal": uint8 (B, 1, H, W)}, "boxes_xyxy": list of (N_i, 4),
        "labels": list of (N_i,), "image_ids": list, "scales": float32 (B,), "original_sizes": int64 (B, 2) as
        (height, width).
    """
    return {
        "images": {modality: torch.stack([sample[modality] for sample in samples]) for modality in ("rgb", "thermal")},
        "boxes_xyxy": [sample["boxes_xyxy"] for sample in samples],
        "labels": [sample["labels"] for sample in samples],
        "image_ids": [sample["image_id"] for sample in samples],
        "scales": torch.tensor([sample["scale"] for sample in samples], dtype=torch.float32),
        "original_sizes": torch.tensor([sample["original_size"] for sample in samples], dtype=torch.int64),
    }


class SeededSampler(Sampler[tuple[int, int]]):
    """Give (index, sample seed) for each of `num` samples; both follow from (seed, epoch, index) alone.

    Args:
        num: samples.
        seed: 0 or more.
        shuffle: a new order each epoch; otherwise 0, 1, 2, ...
    """

    def __init__(self, num: int, seed: int, shuffle: bool):
        self.num = num
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass; without this every pass is the same."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # NumPy promises that SeedSequence never changes its numbers, unlike its shuffles: sort by one of them instead.
        words = [np.random.SeedSequence((self.seed, self.epoch, i)).generate_state(2).tolist() for i in range(self.num)]
        order = sorted(range(self.num), key=lambda i: words[i][1]) if self.shuffle else range(self.num)
        return iter([(i, words[i][0]) for i in order])


def make_loader(
    dataset: PairedDetectionDataset, batch_size: int, seed: int, train: bool, workers: int, pin_memory: bool
) -> DataLoader:
    """Build the loader; call `loader.sampler.set_epoch(epoch)` before each epoch.

    Args:
        dataset: the pairs.
        batch_size: pairs per batch.
        seed: of order and augmentation, 0 or more.
        train: shuffle, and drop the last incomplete batch unless it is the only one.
        workers: processes that decode; 0 is this one.
        pin_memory: speed up copies to a GPU.
    Returns:
        Batches as from `collate`.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=SeededSampler(len(dataset), seed, shuffle=train),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        drop_last=train and len(dataset) >= batch_size,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),  # else each epoch takes a number from the global generator
    )
