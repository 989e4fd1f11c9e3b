"""A data set with its split: which records a part holds, and loaders over parts.

The parts are train, arch and val of the split (splits.py) and test; under the published protocol arch and val are the
test pairs.
"""

from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import DataLoader

from datasets.flir_aligned import open_flir_aligned
from datasets.loader import make_loader
from datasets.paired_detection import PairedData, PairedDetectionDataset, PairRecord
from datasets.paired_transforms import PairTransform, fill_from_mean
from datasets.splits import PAPER, Split, make_split, paper_split
from utils.errors import UserError

OPEN = {"flir_aligned": open_flir_aligned}  # one entry per data set


@dataclass(frozen=True)
class LoaderOptions:
    """How pairs are prepared: image_size (height, width), augmentation as in PairTransform, loader processes."""

    image_size: tuple[int, int]
    batch_size: int
    seed: int
    workers: int
    pin_memory: bool
    hflip: float
    scale_jitter: tuple[float, float]
    photometric: float


@dataclass(frozen=True)
class Parts:
    """Records, ground truth and loaders by part."""

    data: PairedData
    split: Split
    options: LoaderOptions

    @property
    def learning(self) -> tuple[str, ...]:
        """The parts that weights alone may learn on, in pretraining and when the found network is trained."""
        return ("train",) if self.split.protocol == PAPER else ("train", "arch")

    def records(self, *parts: str) -> list[PairRecord]:
        """Return the records of the parts, in the split's order."""
        return [record for part in parts for record in self._records_of(part)]

    def _records_of(self, part: str) -> list[PairRecord]:
        records = self.data.records[self._origin(part)]
        if part == "test":
            return records
        by_name = {r.file_name: r for r in records}
        return [by_name[name] for name in self.split.parts[part]]

    def ground_truth(self, part: str) -> dict:
        """Return the COCO dict that holds the part's images."""
        return self.data.ground_truth[self._origin(part)]

    def _origin(self, part: str) -> str:
        from_test = part == "test" or (part != "train" and self.split.protocol == PAPER)
        return "test" if from_test else "train"

    def loader(self, *parts: str, train: bool) -> DataLoader:
        """Return a loader over the parts; augmented, shuffled and seeded for training, plain otherwise."""
        o = self.options
        fill = fill_from_mean(self.data.normalization)
        transform = PairTransform(o.image_size, fill, train, o.hflip, o.scale_jitter, o.photometric)
        dataset = PairedDetectionDataset(self.records(*parts), transform)
        return make_loader(dataset, o.batch_size, o.seed, train, o.workers, o.pin_memory)


def open_parts(folder: str, dataset: str, split_seed: int, paper_protocol: bool, options: LoaderOptions) -> Parts:
    """Open a data set and cut its training list.

    Raises:
        UserError: the folder is missing or not laid out as the data set, a pair is in both lists, or there are too few.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such data folder")
    data = OPEN[dataset](folder)
    train, test = ([r.file_name for r in data.records[part]] for part in ("train", "test"))
    shared = sorted(set(train) & set(test))
    if shared:
        raise UserError(
            f"{folder}: expected disjoint training and test lists, found {len(shared)} in both: {shared[0]}"
        )
    split = paper_split(train, test) if paper_protocol else make_split(train, split_seed)
    return Parts(data, split, options)
