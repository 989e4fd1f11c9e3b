"""Batches of RGB-thermal samples that depend on (seed, epoch) only, never on the number of workers or ranks.

Each sample carries its own seed, so it can be made anywhere at any time: resumed and whole runs see the same. A pair
with a file that cannot be read ends the run, or is left out of its batch while not too many are.

Shapes: B batch; H, W letterboxed size; M the most boxes of one image of the batch, at least 1. Boxes are xyxy pixels of
the letterboxed image.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from datasets.feature_cache import join_features
from utils import distributed
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UserError

# Pairs that a network meets at once where it does not learn: what fits on one device, however many share a training
# batch, and the same for any number of ranks, since a map's last digits may depend on those beside it.
EVAL_BATCH_SIZE = 16


class Samples(Protocol):
    """A data set whose samples have names."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]: ...

    def name_of(self, index: int) -> str: ...


Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


class BadFiles:
    """The pairs of a run that are left out because a file of them cannot be read; each is named once.

    Args:
        limit: how many may be left out; None: none, and no advice to allow it, since a score is one over all pairs.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self.names: list[str] = []
        self.faults: list[tuple[str, str]] = []  # that this process met
        self.log: Callable[[str], None] = tqdm.write

    def add(self, name: str, fault: str) -> None:
        """Count a pair; UserError where it is one too many."""
        if name in self.names:
            return
        if len(self.names) >= (self.limit or 0):
            known = {None: "", 0: " (--max_bad_files N leaves out up to N such pairs)"}
            raise UserError(fault + known.get(self.limit, f" (--max_bad_files {self.limit} were left out before)"))
        self.names.append(name)
        self.faults.append((name, fault))
        self.log(f"left out, {len(self.names)} of at most {self.limit}: {fault}")

    def merge(self, ranks: Ranks) -> None:
        """Count what each rank has left out, where they have read different pairs."""
        for name, fault in ranks.all_gather(self.faults):
            self.add(name, fault)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join samples of one size.

    Args:
        samples: as from `PairedDetectionDataset`, `CachedDataset` or `CorruptedPairs`.
    Returns:
        As of `collate_targets`, and "images": {"rgb": uint8 (B, 3, H, W), "thermal": uint8 (B, 1, H, W)}, or in their
        place "features" as of `join_features`, or "versions" with images by severity; "image_size": (H, W).
    """
    if "features" in samples[0]:
        features = join_features(samples)
        return {"features": features, "image_size": features["image_size"]} | collate_targets(samples)
    if "versions" in samples[0]:
        names = samples[0]["versions"]
        versions = {name: _images([sample["versions"][name] for sample in samples]) for name in names}
        size = tuple(versions[0]["rgb"].shape[-2:])
        return {"versions": versions, "image_size": size} | collate_targets(samples)
    images = _images(samples)
    return {"images": images, "image_size": tuple(images["rgb"].shape[-2:])} | collate_targets(samples)


def collate_targets(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join all of the samples but their images.

    Args:
        samples: as from `PairedDetectionDataset`; "rgb" and "thermal" are not read.
    Returns:
        "boxes_xyxy": float32 (B, M, 4) and "labels": int64 (B, M), filled up with zero boxes of label -1;
        "image_ids", "file_names": lists, "scales": float32 (B,), "original_sizes": int64 (B, 2) as (height, width).
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
    }


def _images(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {modality: _stack([sample[modality] for sample in samples]) for modality in ("rgb", "thermal")}


def _stack(images: list[torch.Tensor]) -> torch.Tensor:
    """Join images (C, H, W) into (B, C, H, W), channels last in memory like each of them."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


class SeededBatches(Sampler[list[tuple[int, int]]]):
    """Give batches of (index, sample seed); what is in a batch follows from (seed, epoch) alone, not from the ranks.

    Args:
        num: samples.
        batch_size: of the whole batch.
        seed: 0 or more.
        shuffle: a new order each epoch; otherwise 0, 1, 2, ...
        whole: drop the last batch where it is incomplete.
        ranks: among whom the work is divided.
        shares: each rank gets its share of every batch; otherwise they take turns at whole ones.
    """

    def __init__(
        self,
        num: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        whole: bool = False,
        ranks: Ranks = SINGLE_PROCESS,
        shares: bool = True,
    ):
        self.num, self.batch_size, self.seed, self.shuffle, self.whole = num, batch_size, seed, shuffle, whole
        self.ranks, self.shares = ranks, shares
        self.epoch = 0
        self.start = 0  # batches that the next pass leaves out

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass; without this every pass is the same."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the batches that each rank gets; of turns the most that one gets."""
        num = self.num // self.batch_size if self.whole else -(-self.num // self.batch_size)
        return num if self.shares else -(-num // self.ranks.count)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # NumPy promises that SeedSequence never changes its numbers, unlike its shuffles: sort by one of them instead.
        words = [np.random.SeedSequence((self.seed, self.epoch, i)).generate_state(2).tolist() for i in range(self.num)]
        order = sorted(range(self.num), key=lambda i: words[i][1]) if self.shuffle else range(self.num)
        keys, size = [(i, words[i][0]) for i in order], self.batch_size
        batches = [keys[at : at + size] for at in range(0, self.num, size)]
        batches = batches[: self.num // size] if self.whole else batches
        own = [self.ranks.shard(batch) for batch in batches] if self.shares else self.ranks.stride(batches)
        return iter(own[self.start :])


class _Caught(Dataset):
    """The same samples; in the place of one that cannot be read, (name of the pair, what is wrong)."""

    def __init__(self, dataset: Samples):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | tuple[str, str]:
        try:
            return self.dataset[key]
        except UserError as error:
            return self.dataset.name_of(key[0]), str(error)


def _collate_readable(
    join: Collate, samples: list[dict[str, Any] | tuple[str, str]]
) -> tuple[dict[str, Any] | None, list]:
    whole = [sample for sample in samples if isinstance(sample, dict)]
    faults = [sample for sample in samples if not isinstance(sample, dict)]
    return join(whole) if whole else None, faults


class PairLoader(DataLoader):
    """A DataLoader without the pairs that cannot be read.

    "number" of a batch is its place in the pass, "size" its pairs.

    Where ranks have shares of a batch, they agree on what is left out, and "size" counts the pairs of all. A batch of
    which one rank can read nothing is left out as a whole.

    Args:
        batches: what each batch is made of.
        least: pairs that a batch must have after some are left out; smaller ones are skipped.
        bad_files: counts what is left out.
        required: refuse a pass without a batch.
        join: makes a batch of samples.
        options: of DataLoader.
    """

    def __init__(
        self,
        dataset: Samples,
        batches: SeededBatches,
        least: int,
        bad_files: BadFiles,
        required: bool,
        join: Collate,
        **options: Any,
    ):
        own = {"batch_sampler": batches, "collate_fn": partial(_collate_readable, join)}
        super().__init__(_Caught(dataset), **own, **options)
        self.batches = batches
        self.least = least
        self.bad_files = bad_files
        self.required = required
        self.left_at = self.place = (0, 0)  # batches drawn, and of these given: where to begin, and where it is

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass, and begin it at its start."""
        self.batches.set_epoch(epoch)
        self.left_at = self.place = (0, 0)

    def state_dict(self) -> dict:
        """Return the epoch, and how far the pass under way is: batches drawn, and of these given."""
        return {"epoch": self.batches.epoch, "place": list(self.place)}

    def load_state_dict(self, state: dict) -> None:
        """Begin the next pass where another one was left, maybe by another number of ranks."""
        self.set_epoch(state["epoch"])
        self.left_at = self.place = tuple(state["place"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        (drawn, given), self.left_at = self.left_at, (0, 0)
        self.place, self.batches.start = (drawn, given), drawn
        for batch, faults in super().__iter__():
            number, drawn = self._number(drawn), drawn + 1
            size, faults = self._agreed(batch, faults)
            for name, fault in faults:
                self.bad_files.add(name, fault)
            if size and (not faults or size >= self.least):
                given += 1
                self.place = drawn, given
                yield batch | {"number": number, "size": size}
        self.place = 0, 0
        if not given and self.required and (self.batches.shares or self.batches.ranks.count == 1):
            without = ", ".join(self.bad_files.names[:3])
            expected = f"expected a batch of {self.least} or more pairs"
            raise UserError(f"{expected}, found none left in this pass: without {without}")

    def _number(self, drawn: int) -> int:
        """Return the place in the pass of a batch of this rank."""
        ranks = self.batches.ranks
        return drawn if self.batches.shares else drawn * ranks.count + ranks.number

    def _agreed(self, batch: dict[str, Any] | None, faults: list) -> tuple[int, list]:
        """Return the pairs of a whole batch that can be read, 0 where it is left out, and the faults in it."""
        size, ranks = len(batch["file_names"]) if batch else 0, self.batches.ranks
        if ranks.count == 1 or not self.batches.shares:
            return size, faults
        size, num_faults, without = ranks.all_reduce_sum(torch.tensor([size, len(faults), int(not batch)])).tolist()
        return 0 if without else size, ranks.all_gather(faults) if num_faults else []


def ignore_signals(worker: int) -> None:
    """Leave signals to the process that trains: terminals and job schedulers send them to its workers, too."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_when_told(parent: int) -> None:
    """End this worker when its parent asks for it, as it does at its own end, and only then."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def make_loader(
    dataset: Samples,
    batch_size: int,
    seed: int,
    train: bool,
    workers: int,
    pin_memory: bool,
    bad_files: BadFiles | None = None,
    required: bool = True,
    join: Collate = collate,
    ranks: Ranks | None = None,
) -> PairLoader:
    """Build the loader; call `loader.set_epoch(epoch)` before each epoch.

    Args:
        dataset: the pairs.
        batch_size: pairs per batch, of all ranks together; without `train` a batch has TOGETHER at most.
        seed: of order and augmentation, 0 or more.
        train: shuffle, and drop the last incomplete batch unless it is the only one; each rank gets its share of every
            batch. Without it ranks take turns at whole batches, which so are the same for any number of them.
        workers: processes that decode; 0 is this one.
        pin_memory: speed up copies to a GPU.
        bad_files: counts pairs that cannot be read; None: the first one is an error.
        required: refuse a pass in which no pair can be read.
        join: makes a batch of samples.
        ranks: among whom the work is divided; None: all there are.
    Returns:
        Batches as from `join`, with "number" and "size".

    Raises:
        UserError: a batch is too small to be shared.
    """
    ranks = distributed.ranks() if ranks is None else ranks
    batch_size = batch_size if train else min(batch_size, EVAL_BATCH_SIZE)
    if train and (smallest := min(batch_size, len(dataset))) < ranks.count:
        expected = f"expected batches of at least {ranks.count} pairs, one for each process"
        raise UserError(f"--batchsize {batch_size}: {expected}, found {smallest}")
    whole = train and len(dataset) >= batch_size
    return PairLoader(
        dataset,
        SeededBatches(len(dataset), batch_size, seed, shuffle=train, whole=whole, ranks=ranks, shares=train),
        least=min(2, batch_size) if train else 1,  # a batch of one upsets the norms
        bad_files=bad_files or BadFiles(None),
        required=required,
        join=join,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=ignore_signals,
        generator=torch.Generator().manual_seed(seed),  # else each epoch takes a number from the global generator
    )
