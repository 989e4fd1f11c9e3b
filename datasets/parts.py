"""A data set with its split: which records a part holds, and loaders over parts.

The parts are train, arch and val of the split (splits.py) and test. val comes from the data set's own val list where it
has one, else from its training list; under the published protocol arch and val are the test pairs, and a data set's own
val list belongs to the training list.
"""

import hashlib
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

from torch.utils.data import DataLoader

from datasets.detection.corrupted_pairs import CorruptedPairs
from datasets.detection.paired_detection import (
    PairedData,
    PairedDetectionDataset,
    PairRecord,
    black_pair,
    load_pair,
    merge_val,
)
from datasets.detection.paired_transforms import PairTransform, fill_from_mean
from datasets.detection.registry import open_data_set
from datasets.feature_cache import CachedDataset, FeatureCache
from datasets.loader import BadFiles, make_loader
from datasets.splits import OVERFIT, PAPER, Split, make_split, overfit_split, paper_split
from utils import distributed
from utils.distributed import Ranks
from utils.errors import UserError


@dataclass(frozen=True)
class LoaderOptions:
    """How pairs are prepared: image_size (height, width), augmentation as in PairTransform, loader processes.

    max_bad_files: pairs that may be left out, in all, because a file of them cannot be read; None: in a test, none.
    modality_dropout: probability that one sensor of a training pair gives a black picture.
    """

    image_size: tuple[int, int]
    batch_size: int
    seed: int
    workers: int
    pin_memory: bool
    hflip: float
    scale_jitter: tuple[float, float]
    photometric: float
    max_bad_files: int | None
    modality_dropout: float = 0.0


@dataclass(frozen=True)
class Parts:
    """Records, ground truth and loaders by part, which share the count of bad files.

    cache: what loaders give in the place of images, where there is one.
    """

    data: PairedData
    split: Split
    options: LoaderOptions
    bad_files: BadFiles
    cache: FeatureCache | None = None

    UNIT: ClassVar[str] = "pairs"

    @property
    def learning(self) -> tuple[str, ...]:
        """The parts that weights alone may learn on, in pretraining and when the found network is trained."""
        return ("train",) if self.split.protocol in (PAPER, OVERFIT) else ("train", "arch")

    def records(self, *parts: str) -> list[PairRecord]:
        """Return the records of the parts, in the split's order."""
        return [record for part in parts for record in self._records_of(part)]

    def _records_of(self, part: str) -> list[PairRecord]:
        records = self.data.records[self._origin(part)]
        if part == "test":
            return records
        by_name = {r.file_name: r for r in records}
        return [by_name[name] for name in self.split.parts[part]]

    @property
    def digest(self) -> str:
        """A hash of what is learned from and chosen on, but of pixels: facts, names, sizes, boxes, labels, in order."""
        hashed = hashlib.blake2b(repr(self.data.facts).encode(), digest_size=16)
        for part in ("train", "arch", "val"):
            for r in self.records(part):
                hashed.update(f"{part} {r.file_name!r} {r.width} {r.height}".encode())
                hashed.update(r.boxes_xyxy.tobytes() + r.labels.tobytes())
        return hashed.hexdigest()

    def ground_truth(self, part: str) -> dict:
        """Return the COCO dict that holds the part's images."""
        return self.data.ground_truth[self._origin(part)]

    def _origin(self, part: str) -> str:
        if self.split.protocol == OVERFIT and part != "test":
            return "train"
        if part == "test" or (part != "train" and self.split.protocol == PAPER):
            return "test"
        return "val" if part == "val" and "val" in self.data.records else "train"

    def loader(self, *parts: str, train: bool, ranks: Ranks | None = None) -> DataLoader:
        """Return a loader over the parts; augmented, shuffled and seeded for training, plain otherwise.

        `ranks`: that divide the batches among them; None: all; ALONE: each rank gets every batch.
        """
        o = self.options
        transform = PairTransform(o.image_size, self.fill, train, o.hflip, o.scale_jitter, o.photometric)
        dropout = o.modality_dropout if train else 0.0
        dataset = PairedDetectionDataset(self.records(*parts), transform, self.data.thermal_counts, dropout)
        dataset = CachedDataset(dataset, self.cache) if self.cache else dataset
        how = o.batch_size, o.seed, train, o.workers, o.pin_memory, self.bad_files
        return make_loader(dataset, *how, ranks=ranks)

    def images(self, records: list[PairRecord], flip: bool, black: bool = False) -> DataLoader:
        """Return a loader over the images of records, all mirrored or none; image ids are places in the list.

        The ranks of each machine divide them.

        `black`: over black pictures of their sizes; no file is opened.
        """
        o = self.options
        transform = PairTransform(o.image_size, self.fill, train=flip, hflip=1.0)
        numbered = [replace(record, image_id=place) for place, record in enumerate(records)]
        load = black_pair if black else load_pair
        dataset = PairedDetectionDataset(numbered, transform, self.data.thermal_counts, load=load)
        how = o.batch_size, o.seed, False, o.workers, o.pin_memory, self.bad_files
        return make_loader(dataset, *how, required=False, ranks=distributed.ranks_here())

    def corrupted(self, part: str, kind: str, seed: int) -> DataLoader:
        """Return a plain loader over a part whose pictures are corrupted in one way: see `CorruptedPairs`."""
        o = self.options
        transform = PairTransform(o.image_size, self.fill, train=False)
        dataset = PairedDetectionDataset(self.records(part), transform, self.data.thermal_counts)
        how = o.batch_size, o.seed, False, o.workers, o.pin_memory, self.bad_files
        return make_loader(CorruptedPairs(dataset, kind, seed), *how)

    @property
    def fill(self) -> dict[str, list[int]]:
        """The colour of each modality beside a letterboxed image."""
        return fill_from_mean(self.data.normalization)


def open_parts(
    folder: str,
    dataset: str,
    split_seed: int,
    paper_protocol: bool,
    options: LoaderOptions,
    overfit: int | None = None,
) -> Parts:
    """Open a data set and cut its training list; `overfit`: take so many pairs of it for all parts.

    Raises:
        UserError: the folder is missing or not laid out as the data set, a pair is in two lists, or there are too few.
    """
    data = open_data_set(folder, dataset)
    _check_disjoint(folder, data)
    data = merge_val(data) if paper_protocol else data
    names = {origin: [r.file_name for r in records] for origin, records in data.records.items()}
    if overfit:
        split = overfit_split([r.file_name for r in data.records["train"] if len(r.labels)], overfit)
    elif paper_protocol:
        split = paper_split(names["train"], names["test"])
    else:
        split = make_split(names["train"], split_seed, own_val=names.get("val"))
    return Parts(data, split, options, BadFiles(options.max_bad_files))


def _check_disjoint(folder: str, data: PairedData) -> None:
    names = {origin: {r.file_name for r in records} for origin, records in data.records.items()}
    for one, other in combinations(names, 2):
        shared = sorted(names[one] & names[other])
        if shared:
            raise UserError(
                f"{folder}: expected disjoint {one} and {other} lists, found {len(shared)} pairs in both: {shared[0]}"
            )
