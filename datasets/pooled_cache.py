"""What frozen encoders make of examples, after pooling: some kilobytes each, computed once.

A record is found by content of its files and span; its store belongs to one state of one encoder (utils/pooling.py).
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from datasets.classification.examples import Example, LabelledDataset
from datasets.feature_store import Store
from utils.distributed import ranks_here
from utils.errors import UserError


@dataclass(frozen=True, eq=False)
class PooledCache:
    """The stores of a network's encoders, by modality, and the key of each example's record.

    Args:
        keys: name of an example -> modality -> key.
        kind: what a run's checkpoint says of the cache.
    """

    stores: dict[str, Store]
    keys: dict[str, dict[str, str]]
    kind: str = "pooled"

    def read(self, example: Example) -> dict[str, list[Tensor]]:
        """Give the pooled taps (C, L or 1) of each modality; UserError where a file could not be read."""
        try:
            return {m: store[self.keys[example.name][m]] for m, store in self.stores.items()}
        except KeyError:
            why = "a file of the example cannot be read, or the cache was deleted"
            raise UserError(f"{example.name}: expected cached features, found none: {why}") from None


class CachedExamples(Dataset):
    """The samples of a data set with "features" by modality in the place of inputs."""

    def __init__(self, dataset: LabelledDataset, cache: PooledCache):
        self.dataset, self.cache = dataset, cache

    def __len__(self) -> int:
        return len(self.dataset)

    def name_of(self, index: int) -> str:
        return self.dataset.name_of(index)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.dataset.target(key[0]) | {"features": self.cache.read(self.dataset.records[key[0]])}


def keys_of(examples: Iterable[Example], modalities: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Hash the files of examples; the key of a file that cannot be opened is like no other, now and later.

    The ranks of a machine divide the work.
    """
    own = ranks_here().shard(list(examples))
    keys = [(e.name, {m: f"{digest(Path(e.files[m]))}-{_span(e)}" for m in modalities}) for e in own]
    return dict(ranks_here().all_gather(keys))


def digest(path: Path) -> str:
    """Return a hash of a file's content, or of the names, sizes and times of the files of a folder of frames."""
    try:
        if path.is_dir():
            files = sorted(os.scandir(path), key=lambda file: file.name)
            told = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
            return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()
        if not path.is_file():
            return os.urandom(16).hex()
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    except OSError:
        return os.urandom(16).hex()


def _span(example: Example) -> str:
    return "all" if example.span is None else f"{example.span[0]}to{example.span[1]}"
