"""What every classification data set offers: examples of several modalities with one label, or several.

A reader (mmimdb.py, ntu.py, ego_gesture.py) turns a folder into `LabelledData`; nothing here depends on a layout. All
randomness of a sample comes from the seed in its key.

Shapes: K classes.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import av
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets import images
from datasets.classification import clips, skeletons
from datasets.feature_cache import PLAIN, Variant
from datasets.splits import Split, dev_split
from utils.errors import UserError

ENCODER_BATCH_SIZE = 8  # examples that frozen encoders read at once: maps of clips take gigabytes
SMALL = 64  # examples of a list of --small_dataset

# Reads some modalities of an example: (example, modalities, seed) to tensors by modality. Without a seed nothing is
# drawn, as in validation and test; a draw, such as a crop in time, is the same for all modalities.
Load = Callable[["Example", tuple[str, ...], int | None], dict[str, Tensor]]


@dataclass(frozen=True)
class Example:
    """One example.

    Args:
        name: unique in the data set, and the same in every run.
        paths: by modality: a file, or a folder of frames.
        label: places in the list of classes; one where the data set is not multi-label.
        group: a split keeps the examples of one group together, such as those of one person.
        span: frames of `paths`, or rows of a file that all examples share: the first one, and the one after the last;
            None: all.
    """

    name: str
    paths: dict[str, str]
    label: tuple[int, ...]
    group: str = ""
    span: tuple[int, int] | None = None

    @property
    def content(self) -> bytes:
        """What is learned from the example, but for the content of files."""
        return repr((self.name, self.label, self.span)).encode()

    @property
    def excerpt(self) -> str:
        """What of the files is shown."""
        return "all" if self.span is None else f"{self.span[0]}to{self.span[1]}"


@dataclass(eq=False)
class LabelledDataset(Dataset):
    """Read examples.

    Args:
        records: the examples to give.
        load: reads them.
        modalities: to read.
        num_classes: K of multi-hot labels; None: each example has one class.
        seeded: draws follow from the seeds of keys; else nothing is drawn.
    """

    records: list[Example]
    load: Load
    modalities: tuple[str, ...]
    num_classes: int | None = None
    seeded: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return one sample: "inputs" by modality, and what `target` gives.

        Args:
            key: an index (its draws use seed 0), or (index, seed).
        """
        index, seed = key if isinstance(key, tuple) else (key, 0)
        inputs = self.load(self.records[index], self.modalities, seed if self.seeded else None)
        return {"inputs": inputs} | self.target((index, seed))

    def target(self, key: tuple[int, int]) -> dict[str, Any]:
        """Return "label", multi-hot float32 (K,) or one int64, "image_id" (the place) and "file_name" of a key."""
        index, _ = key
        example = self.records[index]
        if self.num_classes is None:
            label = torch.tensor(example.label[0])
        else:
            label = torch.zeros(self.num_classes)
            label[list(example.label)] = 1
        return {"label": label, "image_id": index, "file_name": example.name}


def first_of_each(examples: dict[str, list[Example]], small: bool) -> dict[str, list[Example]]:
    """Return the lists, of `--small_dataset` SMALL examples of each; see `take_subset`."""
    return {name: take_subset(listed) if small else listed for name, listed in examples.items()}


def take_subset(listed: list[Example]) -> list[Example]:
    """Return SMALL examples in the list's order: the first of each group, then the second of each, and so on."""
    groups: dict[str, list[Example]] = {}
    for example in listed:
        groups.setdefault(example.group, []).append(example)
    in_turn = [example for row in zip_longest(*groups.values()) for example in row if example]
    kept = {example.name for example in in_turn[:SMALL]}
    return [example for example in listed if example.name in kept]


@dataclass(frozen=True, eq=False)
class LabelledData:
    """What every classification data set offers.

    Args:
        name: of the data set, as the commands call it.
        classes: names, in the order of the scores.
        multi_label: an example has any number of classes; else exactly one.
        modalities: that are read, in the order of a cell's inputs.
        records: by list: "train" (weights of a search), "dev" (logits, and the choice of an epoch), "test", and
            "rest", which the final training uses beside "train", where the published protocol has it.
        load: reads modalities of an example; its tensors are of one shape for all examples. UserError for a bad file.
        facts: plain values that a trained network depends on.
        lengths: by modality, the length of vectors, where data sets of this name differ in it.
        warnings: lines on what was left out, or is odd without being wrong.
        augment: training draws crops.
    """

    name: str
    classes: list[str]
    multi_label: bool
    modalities: tuple[str, ...]
    records: dict[str, list[Example]]
    load: Load
    facts: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    augment: bool = False

    unit = "examples"
    cache_batch_size = ENCODER_BATCH_SIZE
    cache_repeats_batches = False  # as in 0.1.0

    @property
    def notes(self) -> dict[str, dict[str, int | str]]:
        """How many examples each list has."""
        return {name: {"examples": len(listed)} for name, listed in self.records.items()}

    def of(self, modality: str) -> "LabelledData":
        """Return the same data, of one modality alone."""
        return replace(self, modalities=(modality,))

    def dataset(self, records: Sequence[Example], train: bool) -> LabelledDataset:
        """Return the samples of examples: with drawn crops for training where `augment` says so, plain otherwise."""
        num_classes = len(self.classes) if self.multi_label else None
        return LabelledDataset(list(records), self.load, self.modalities, num_classes, train and self.augment)

    @staticmethod
    def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Join samples: "labels", "image_ids", "file_names", and "inputs" by modality, or their cached taps."""
        batch: dict[str, Any] = {"labels": torch.stack([sample["label"] for sample in samples])}
        batch |= {f"{name}s": [sample[name] for sample in samples] for name in ("image_id", "file_name")}
        if "features" in samples[0]:
            by_tap = {m: zip(*(s["features"][m] for s in samples), strict=True) for m in samples[0]["features"]}
            inputs = {m: [torch.stack(taps) for taps in both] for m, both in by_tap.items()}
        else:
            inputs = {m: torch.stack([s["inputs"][m] for s in samples]) for m in samples[0]["inputs"]}
        return batch | {"inputs": inputs}

    @property
    def cache_facts(self) -> dict[str, Any]:
        """Plain values that decide how inputs are read."""
        return {"av": av.__version__}

    @property
    def cache_key_modules(self) -> tuple[Any, ...]:
        """The code from a file to an input."""
        reader = getattr(self.load, "func", self.load).__module__
        return (images, clips, skeletons, sys.modules[__name__], sys.modules[reader])

    @property
    def changing(self) -> str:
        """Why the inputs of a training differ in each epoch, so that their features cannot be kept; "" if not."""
        return "--augment changes features in each epoch: expected none beside it" if self.augment else ""

    def variants(self, records: Sequence[Example], train: bool) -> list[tuple[Example, Variant]]:
        """Return the inputs that will be read."""
        return [(record, PLAIN) for record in records]

    def variant_dataset(self, records: Sequence[Example], variant: Variant) -> LabelledDataset:
        """Return the plain samples of examples; an image id is the place in the list."""
        return self.dataset(records, train=False)

    def example_inputs(self, records: Sequence[Example]) -> dict[str, Tensor]:
        """Return the inputs of the first example that can be read, as a batch of one, by modality."""
        for record in records:
            with contextlib.suppress(UserError):
                return {m: inputs[None] for m, inputs in self.load(record, self.modalities, None).items()}
        raise UserError(f"{records[0].name}: expected examples that can be read, found none")


def cut(data: LabelledData, seed: int, paper_protocol: bool) -> Split:
    """Return the split of a data set: its dev list is cut by groups, or under the published protocol not at all."""
    groups: dict[str, list[str]] = {}
    for example in data.records["dev"]:
        groups.setdefault(example.group or example.name, []).append(example.name)
    return dev_split([example.name for example in data.records["train"]], groups, None if paper_protocol else seed)
