"""A classification data set with its split: which examples a part holds, and loaders over parts.

The parts are train, arch and val of the split, made of the data set's own train and dev lists, rest (what the final
training has beside) and test. Under the published protocol the whole dev list is arch and val.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from datasets.classification.examples import Example, LabelledData, LabelledDataset, collate_labelled
from datasets.loader import BadFiles, PairLoader, make_loader
from datasets.pooled_cache import CachedExamples, PooledCache
from datasets.splits import DEV, Split, dev_split
from utils.distributed import SINGLE_PROCESS, Ranks

ENCODER_BATCH_SIZE = 8  # examples that encoders see at once where no gradient is wanted: maps of clips take gigabytes


@dataclass(frozen=True)
class ExampleOptions:
    """How examples are read: batches, loader processes, and whether training draws crops.

    max_bad_files: examples that may be left out, in all, because a file of them cannot be read; None: in a test, none.
    """

    batch_size: int
    seed: int
    workers: int
    pin_memory: bool
    augment: bool
    max_bad_files: int | None


@dataclass(frozen=True)
class LabelledParts:
    """Examples and loaders by part, which share the count of bad files.

    Args:
        modalities: that are read.
        cache: what loaders give in the place of inputs, where there is one.
    """

    data: LabelledData
    split: Split
    options: ExampleOptions
    modalities: tuple[str, ...]
    bad_files: BadFiles
    cache: PooledCache | None = None

    UNIT: ClassVar[str] = "examples"

    @property
    def learning(self) -> tuple[str, ...]:
        """The parts that weights alone may learn on, when the found network is trained."""
        return ("train", "rest") if self.split.protocol == DEV else ("train", "arch", "rest")

    def of(self, modality: str) -> "LabelledParts":
        """Return the same parts, of one modality alone."""
        return replace(self, modalities=(modality,))

    def without_rest(self) -> "LabelledParts":
        """Return the parts of a search, whose strategies all learn on the same examples."""
        return replace(self, data=replace(self.data, examples=self.data.examples | {"rest": []}))

    def records(self, *parts: str) -> list[Example]:
        """Return the examples of the parts, in the split's order."""
        return [example for part in parts for example in self._records_of(part)]

    def _records_of(self, part: str) -> list[Example]:
        if part not in self.split.parts:
            return self.data.examples.get(part, [])
        by_name = {example.name: example for example in self.data.examples["train" if part == "train" else "dev"]}
        return [by_name[name] for name in self.split.parts[part]]

    @property
    def digest(self) -> str:
        """A hash of what is learned from and chosen on, but of the files' content: facts, names, labels, in order."""
        hashed = hashlib.blake2b(repr([self.data.facts, self.data.classes]).encode(), digest_size=16)
        for part in ("train", "arch", "val", "rest"):
            hashed.update(repr([(part, e.name, e.label, e.span) for e in self.records(part)]).encode())
        return hashed.hexdigest()

    def loader(self, *parts: str, train: bool, ranks: Ranks | None = None) -> PairLoader:
        """Return a loader over the parts; shuffled and seeded for training, plain otherwise.

        `ranks`: that divide the batches among them; None: all; ALONE: each rank gets every batch.
        """
        dataset: Any = LabelledDataset(self.data, self.records(*parts), self.modalities, train and self.options.augment)
        o, dataset = self.options, CachedExamples(dataset, self.cache) if self.cache else dataset
        how = o.batch_size, o.seed, train, o.workers, o.pin_memory, self.bad_files
        return make_loader(dataset, *how, join=collate_labelled, ranks=ranks)

    def plain_loader(self, records: list[Example], modality: str, ranks: Ranks = SINGLE_PROCESS) -> PairLoader:
        """Return a loader over some examples of one modality as they are; those that cannot be read are left out.

        `ranks`: that divide the batches among them.
        """
        dataset = LabelledDataset(self.data, records, (modality,), seeded=False)
        o = self.options
        how = min(o.batch_size, ENCODER_BATCH_SIZE), o.seed, False, o.workers, o.pin_memory, self.bad_files
        return make_loader(dataset, *how, required=False, join=collate_labelled, ranks=ranks)


def cut(data: LabelledData, seed: int, paper: bool) -> Split:
    """Return the split of a data set: its own dev list is cut by groups, or under the published protocol not at all."""
    groups: dict[str, list[str]] = {}
    for example in data.examples["dev"]:
        groups.setdefault(example.group or example.name, []).append(example.name)
    return dev_split([example.name for example in data.examples["train"]], groups, None if paper else seed)
