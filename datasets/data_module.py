"""A data set with its split: the records of each part, and loaders over parts.

The parts are train, arch and val of the split (splits.py), and the data set's other lists: test, and rest, which the
final training of some data sets uses as well. It is one class for image pairs, single images and labelled examples.

What a data set offers (`DetectionData`, `LabelledData`):

    name, classes, modalities, warnings
    records                             by list
    notes                               by list, counts and remarks for the log
    unit                                what a record is called in messages, plural
    facts                               plain values that a trained network depends on
    dataset(records, train)             samples; with augmentation for training
    collate(samples)                    a batch
    of(modality)                        the same data, of one modality (classification)

and for a feature cache:

    cache_batch_size                    records that streams read at once
    cache_repeats_batches               a batch with a missing record is computed whole, else the missing record alone
    cache_facts                         plain values that decide how inputs are prepared
    cache_key_modules                   the code from a file to an input
    changing                            why inputs differ in each epoch of a training; "" where they do not
    variants(records, train)            pairs of record and variant that will be read
    variant_dataset(records, variant)   samples whose image ids are places in records
    example_inputs(records)             by modality, a batch of one
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets.feature_cache import PLAIN, CachedDataset, FeatureCache, Variant
from datasets.loader import BadFiles, LoaderOptions, SampleLoader, Samples
from datasets.splits import ALL, BLOCKED, PARTS, Split
from utils import distributed
from utils.distributed import Ranks
from utils.errors import UserError

UNUSED_IN_SEARCH = "rest"  # a list that is learned from in the final training alone
TRAINING_LIST = "training list"  # takes the place of `train` where that holds the test list, too


@dataclass(frozen=True)
class DataModule:
    """Records and loaders by part, which share the count of bad files.

    Args:
        data: the data set.
        split: which records belong to train, arch and val.
        options: of loaders.
        bad_files: counts what is left out.
        cache: what loaders give in place of inputs, where there is one.
    """

    data: Any  # as above; callers use what their own kind offers beside it
    split: Split
    options: LoaderOptions
    bad_files: BadFiles
    cache: FeatureCache | None = None

    @property
    def unit(self) -> str:
        return self.data.unit

    @property
    def learning(self) -> tuple[str, ...]:
        """The parts that weights alone may learn on, in pretraining and when the found network is trained."""
        parts = {BLOCKED: ("train", "arch"), ALL: (TRAINING_LIST,)}.get(self.split.protocol, ("train",))
        return parts + ((UNUSED_IN_SEARCH,) if self.data.records.get(UNUSED_IN_SEARCH) else ())

    def for_search(self) -> "DataModule":
        """Return the data of a search, whose strategies all learn on the same records."""
        records = {name: listed for name, listed in self.data.records.items() if name != UNUSED_IN_SEARCH}
        return replace(self, data=replace(self.data, records=records))

    def of(self, modality: str) -> "DataModule":
        """Return the same data, of one modality alone."""
        return replace(self, data=self.data.of(modality))

    def records(self, *parts: str) -> list[Any]:
        """Return the records of the parts, in the split's order.

        Raises:
            UserError: the data set has no test list.
        """
        return [record for part in parts for record in self._records_of(part)]

    def _records_of(self, part: str) -> list[Any]:
        if part in self.split.parts:
            by_name = {record.name: record for listed in self.data.records.values() for record in listed}
            return [by_name[name] for name in self.split.parts[part]]
        if part == TRAINING_LIST:
            return self.data.records["train"]
        if part == "test" and not self.data.records.get("test"):
            found = ", ".join(name for name, listed in self.data.records.items() if listed)
            raise UserError(f"{self.data.name}: expected a test list, found only {found} (see --eval_part)")
        return self.data.records.get(part, [])

    def list_of(self, part: str) -> str:
        """Return the list of the data set that holds the records of a part."""
        if part not in self.split.parts:
            return part
        name = self.split.parts[part][0]
        return next(o for o, listed in self.data.records.items() if any(record.name == name for record in listed))

    @property
    def digest(self) -> str:
        """A hash of what is learned from and chosen on, but of files: facts, names, boxes, labels, in order."""
        hashed = hashlib.blake2b(repr(self.data.facts).encode(), digest_size=16)
        for part in (*PARTS, *(name for name in self.data.records if name == UNUSED_IN_SEARCH)):
            for record in self.records(part):
                hashed.update(f"{part} ".encode() + record.content)
        return hashed.hexdigest()

    def loader(self, *parts: str, train: bool, ranks: Ranks | None = None) -> SampleLoader:
        """Return a loader over the parts: augmented, shuffled and seeded for training, plain otherwise.

        Args:
            parts: their records, in this order.
            train: see above.
            ranks: the processes that divide the batches; None: all; SINGLE_PROCESS: each rank gets every batch.
        """
        dataset = self.data.dataset(self.records(*parts), train)
        return self.load(CachedDataset(dataset, self.cache) if self.cache else dataset, train, ranks)

    def variant_loader(self, records: Sequence[Any], variant: Variant = PLAIN) -> SampleLoader:
        """Return a loader over the inputs of records, for a feature cache; the ranks of each machine divide them.

        Args:
            records: an image id of a batch is the place in this list.
            variant: how the inputs of all of them are changed.
        """
        dataset, ranks = self.data.variant_dataset(records, variant), distributed.ranks_here()
        options = replace(self.options, batch_size=self.cache_batch_size)
        return SampleLoader(dataset, self.data.collate, options, False, self.bad_files, required=False, ranks=ranks)

    @property
    def cache_batch_size(self) -> int:
        """The number of records that streams read at once when a cache is filled."""
        return min(self.options.batch_size, self.data.cache_batch_size)

    def load(self, dataset: Samples, train: bool = False, ranks: Ranks | None = None) -> SampleLoader:
        """Return a loader over any samples of the data set; arguments as of `loader`."""
        return SampleLoader(dataset, self.data.collate, self.options, train, self.bad_files, ranks=ranks)
