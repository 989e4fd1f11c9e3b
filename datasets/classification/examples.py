"""Examples of several modalities with one label, or several, and the torch Dataset over them.

All randomness of a sample comes from the seed in its key.

Shapes: K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

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
        span: frames of `paths`: the first one, and the one after the last; None: all.
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
