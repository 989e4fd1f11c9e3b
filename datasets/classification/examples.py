"""Examples of several modalities with one label, or several: what a classification data set offers, and its Dataset.

A reader (mmimdb.py, ntu.py, ego_gesture.py) turns a folder into `LabelledData`; nothing here knows a layout. All
randomness of a sample comes from the seed in its key.

Shapes: K classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

# Reads some modalities of an example: (example, modalities, seed) to tensors by modality. Without a seed nothing is
# drawn, as in validation and test; what is drawn is one for all modalities, as a crop in time.
Load = Callable[["Example", tuple[str, ...], int | None], dict[str, Tensor]]


@dataclass(frozen=True)
class Example:
    """One example.

    Args:
        name: unique in the data set, and the same in every run.
        files: by modality: a file, or a folder of frames.
        label: places in the list of classes; one where the data set is not multi-label.
        group: examples of one group are never cut apart, as those of one person.
        span: of frames in `files`: the first, and one behind the last; None: all.
    """

    name: str
    files: dict[str, str]
    label: tuple[int, ...]
    group: str = ""
    span: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class LabelledData:
    """What every classification data set offers.

    Args:
        name: of the data set, as the commands call it.
        classes: names, in the order of the scores.
        multi_label: an example has any number of classes; else exactly one.
        modalities: in the order of a cell's inputs.
        examples: by list: "train" (weights of a search), "dev" (logits, and the choice of an epoch), "test", and
            "rest", which the final training learns on beside "train", where the published protocol has it.
        load: reads modalities of an example; its tensors are of one shape for all examples. UserError for a bad file.
        facts: plain values that a network learns beside the examples.
        remarks: lines on what was left out or is odd without being wrong.
    """

    name: str
    classes: list[str]
    multi_label: bool
    modalities: tuple[str, ...]
    examples: dict[str, list[Example]]
    load: Load
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def notes(self) -> dict[str, dict[str, int]]:
        """How many examples each list has."""
        return {name: {"examples": len(own)} for name, own in self.examples.items()}


class LabelledDataset(Dataset):
    """Read examples.

    Args:
        data: whose `load`, classes and kind of labels count.
        records: of its examples, those to give.
        modalities: to read.
        seeded: what is drawn follows from the seeds of keys; else nothing is.
    """

    def __init__(self, data: LabelledData, records: list[Example], modalities: tuple[str, ...], seeded: bool):
        self.data, self.records, self.modalities, self.seeded = data, records, modalities, seeded

    def __len__(self) -> int:
        return len(self.records)

    def name_of(self, index: int) -> str:
        return self.records[index].name

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Give one sample: "inputs" by modality, and what `target` gives.

        Args:
            key: an index (its draws use seed 0), or (index, seed).
        """
        index, seed = key if isinstance(key, tuple) else (key, 0)
        inputs = self.data.load(self.records[index], self.modalities, seed if self.seeded else None)
        return {"inputs": inputs} | self.target(index)

    def target(self, index: int) -> dict[str, Any]:
        """Give "label", multi-hot float32 (K,) or one int64, "image_id" (the place) and "file_name" of an example."""
        example = self.records[index]
        if self.data.multi_label:
            label = torch.zeros(len(self.data.classes))
            label[list(example.label)] = 1
        else:
            label = torch.tensor(example.label[0])
        return {"label": label, "image_id": index, "file_name": example.name}


def collate_labelled(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join samples: "labels", "image_ids", "file_names", and "inputs" by modality, or of cached ones lists of taps."""
    batch = {"labels": torch.stack([sample["label"] for sample in samples])}
    batch |= {f"{name}s": [sample[name] for sample in samples] for name in ("image_id", "file_name")}
    if "features" in samples[0]:
        names = samples[0]["features"]
        return batch | {"inputs": {m: [torch.stack(taps) for taps in _taps(samples, m)] for m in names}}
    return batch | {"inputs": {m: torch.stack([s["inputs"][m] for s in samples]) for m in samples[0]["inputs"]}}


def _taps(samples: list[dict[str, Any]], modality: str) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(sample["features"][modality] for sample in samples), strict=True)
