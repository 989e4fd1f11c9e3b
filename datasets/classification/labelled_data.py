"""What every classification data set offers.

A reader (mmimdb.py, ntu.py, ego_gesture.py) turns a folder into `LabelledData`; nothing here depends on a layout.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import av
import torch
from torch import Tensor

from datasets import images, resize
from datasets.classification import clips, examples, skeletons
from datasets.classification.examples import Example, LabelledDataset, Load
from datasets.feature_cache import PLAIN, Variant
from datasets.splits import Split, dev_split
from utils.errors import UserError

ENCODER_BATCH_SIZE = 8  # examples that frozen encoders read at once: maps of clips take gigabytes


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
    warnings: tuple[str, ...] = ()
    augment: bool = False

    unit = "examples"
    cache_batch_size = ENCODER_BATCH_SIZE

    @property
    def notes(self) -> dict[str, dict[str, int | str]]:
        """How many examples each list has."""
        return {name: {"examples": len(listed)} for name, listed in self.records.items()}

    def of(self, modality: str) -> "LabelledData":
        """Return the same data, of one modality alone."""
        return replace(self, modalities=(modality,))

    def dataset(self, records: Sequence[Example], train: bool) -> LabelledDataset:
        """Return the samples of examples: with drawn crops for training where `augment` says so, plain otherwise."""
        return self._dataset(records, seeded=train and self.augment)

    @staticmethod
    def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Join samples: "labels", "image_ids", "file_names", and "inputs" by modality, or their cached taps."""
        batch: dict[str, Any] = {"labels": torch.stack([sample["label"] for sample in samples])}
        batch |= {f"{name}s": [sample[name] for sample in samples] for name in ("image_id", "file_name")}
        inputs: dict[str, Any]
        if "features" in samples[0]:
            inputs = {m: [torch.stack(taps) for taps in _taps(samples, m)] for m in samples[0]["features"]}
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
        return (images, resize, clips, skeletons, examples, sys.modules[reader])

    @property
    def changing(self) -> str:
        """Why the inputs of a training differ in each epoch, so that their features cannot be kept; "" if not."""
        return "--augment changes features in each epoch: expected none beside it" if self.augment else ""

    def variants(self, records: Sequence[Example], train: bool) -> list[tuple[Example, Variant]]:
        """Return the inputs that will be read."""
        return [(record, PLAIN) for record in records]

    def variant_dataset(self, records: Sequence[Example], variant: Variant) -> LabelledDataset:
        """Return the plain samples of examples; an image id is the place in the list."""
        assert variant == PLAIN, variant
        return self._dataset(records, seeded=False)

    def _dataset(self, records: Sequence[Example], seeded: bool) -> LabelledDataset:
        num_classes = len(self.classes) if self.multi_label else None
        return LabelledDataset(list(records), self.load, self.modalities, num_classes, seeded)

    def example_inputs(self, records: Sequence[Example]) -> dict[str, Tensor]:
        """Return the inputs of the first example that can be read, as a batch of one, by modality."""
        for record in records:
            try:
                return {m: inputs[None] for m, inputs in self.load(record, self.modalities, None).items()}
            except UserError:
                continue
        raise UserError(f"{records[0].name}: expected examples that can be read, found none")


def cut(data: LabelledData, seed: int, paper_protocol: bool) -> Split:
    """Return the split of a data set: its dev list is cut by groups, or under the published protocol not at all."""
    groups: dict[str, list[str]] = {}
    for example in data.records["dev"]:
        groups.setdefault(example.group or example.name, []).append(example.name)
    return dev_split([example.name for example in data.records["train"]], groups, None if paper_protocol else seed)


def _taps(samples: list[dict[str, Any]], modality: str) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(sample["features"][modality] for sample in samples), strict=True)
