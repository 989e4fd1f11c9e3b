"""Fill a feature cache: run each frozen stream once over every input, and over its variants where training has them.

A store belongs to everything that decides its numbers: the stream's modules and tensors, how inputs are prepared, the
type, the device, the libraries and our own code. All of that is in its key.

Shapes: B batch.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import PIL
import timm
import torch
import torchvision
from torch import Tensor, nn

from datasets.data_module import DataModule
from datasets.feature_cache import FeatureCache, Record, Variant
from datasets.feature_store import AnyStore, Shapes
from engine.compute import Compute
from engine.progress import Log
from engine.step import move
from utils.distributed import ranks_here
from utils.progress_bar import bar

Inputs = list[tuple[Record, Variant]]
Sources = dict[str, Inputs]  # key of a record of a store: the inputs that it can be computed from
INPUTS = ("images", "inputs")  # of a batch, by modality


class CacheableModel(Protocol):
    """A model with frozen streams, each of which reads some modalities.

    Attributes:
        feature_kinds: what can be kept of a stream ("taps", "encoder", "pooled", "vector"), the preferred kind first.
        cache_key_modules: the code from an input to its features.
        stream_inputs: the modalities that each stream reads.
        cache_facts: plain values that decide features beside `cache_modules`.
    """

    feature_kinds: tuple[str, ...]
    cache_key_modules: tuple[ModuleType, ...]
    stream_inputs: dict[str, tuple[str, ...]]
    cache_facts: dict[str, Any]

    def cache_modules(self, stream: str, kind: str) -> dict[str, nn.Module]:
        """Return the modules that features of a kind go through."""

    def encode_for_cache(self, inputs: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the features (B, ...) of a batch of inputs by modality."""


@dataclass(frozen=True)
class Encoding:
    """What computes the features of a data set: the frozen streams of a model, on its device, in its memory layout."""

    data: DataModule
    model: CacheableModel
    compute: Compute

    def store_key(self, stream: str, kind: str, dtype: str) -> str:
        """Return the name of a store: a hash of everything that decides the numbers in it but the inputs."""
        data, model, compute = self.data.data, self.model, self.compute
        modules = model.cache_modules(stream, kind)
        facts = [stream, kind, dtype, compute.device.type, compute.amp, model.cache_facts, data.cache_facts]
        versions = {library.__name__: library.__version__ for library in (torch, torchvision, timm, PIL)}
        hashed = hashlib.blake2b(json.dumps([facts, versions, repr(modules)], sort_keys=True).encode())
        for code in (*data.cache_key_modules, *model.cache_key_modules):
            hashed.update(Path(str(code.__file__)).read_bytes())
        for name, module in modules.items():
            for key, tensor in module.state_dict().items():
                hashed.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return hashed.hexdigest()[:16]

    def shapes(self, stream: str, kind: str, records: Sequence[Record]) -> Shapes:
        """Return the shapes of the features of one record, by running the stream on an example."""
        features = encode(self.model, self.data.data.example_inputs(records), stream, kind, self.compute)
        return tuple(tuple(tensor.shape[1:]) for tensor in features)

    def fill(self, cache: FeatureCache, stream: str, wanted: Sources, log: Log) -> None:
        """Compute the records of a stream that are missing, except those that another process has added meanwhile.

        Where a file cannot be read, the next input of equal content is taken.
        """
        store, here = cache.stores[stream], ranks_here()
        batch_size = self.data.cache_batch_size if self.data.data.cache_repeats_batches else 1
        variants = dict.fromkeys(variant for inputs in wanted.values() for _, variant in inputs)
        with store.writing(len(wanted), log, here):
            for attempt in range(max(len(inputs) for inputs in wanted.values())):
                for variant in variants:
                    inputs = {key: inputs[attempt] for key, inputs in wanted.items() if len(inputs) > attempt}
                    records = {key: record for key, (record, changed) in inputs.items() if changed == variant}
                    for members in by_group(records, self.data.options.group):
                        if left := unfinished(members, store, batch_size):
                            self._add(store, stream, cache.kind, left, variant)
                            store.note(here.all_gather([key for key in left if key in store]))

    def _add(self, store: AnyStore, stream: str, kind: str, records: dict[str, Record], variant: Variant) -> None:
        """Add the features of some records; those that are there already are not replaced."""
        keys, batches = list(records), self.data.variant_loader(list(records.values()), variant)
        for batch in bar(batches, f"features of {stream}{'' if variant.words == 'plain' else f', {variant.words}'}"):
            inputs = next(batch[name] for name in INPUTS if name in batch)
            features = encode(self.model, inputs, stream, kind, self.compute)
            places = [(i, keys[place]) for i, place in enumerate(batch["image_ids"]) if keys[place] not in store]
            store.add({key: [tensor[i] for tensor in features] for i, key in places})


def encode(model: CacheableModel, inputs: dict[str, Tensor], stream: str, kind: str, compute: Compute) -> list[Tensor]:
    """Return a stream's features of a batch, (B, ...) on the CPU."""
    model.eval()
    moved = move({m: inputs[m] for m in model.stream_inputs[stream]}, compute.device)
    # Each input is read once, so compiling would not pay; and records are the same with and without it.
    with torch.no_grad(), compute.autocast(), torch.compiler.set_stance("force_eager"):
        return [features.cpu() for features in model.encode_for_cache(moved, stream, kind)]


def by_group(records: dict[str, Record], group: Callable[[Record], Hashable] | None) -> list[dict[str, Record]]:
    """Return the records of each group apart, as loaders batch them."""
    groups: dict[Hashable, dict[str, Record]] = {}
    for key, record in records.items():
        groups.setdefault(group(record) if group else None, {})[key] = record
    return list(groups.values())


def unfinished(records: dict[str, Record], store: AnyStore, size: int) -> dict[str, Record]:
    """Return the records of batches of which one is missing: a map's last digits may depend on others in its batch.

    So a fill that was stopped goes on with the same numbers.
    """
    keys = list(records)
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    return {k: records[k] for batch in batches if any(k not in store for k in batch) for k in batch}
