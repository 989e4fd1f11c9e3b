"""Samples whose inputs are replaced by cached features: what frozen streams compute of them, once per input.

A record is found by the content of its files, by what of them is shown, and by its variant: mirrored, scaled or black.
Its store belongs to one state of one stream (engine/feature_fill.py). So features of a changed file, of other weights
or of another input size are never read.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

from torch import Tensor
from torch.utils.data import Dataset

from datasets.feature_store import AnyStore
from utils.distributed import ranks_here
from utils.errors import UserError
from utils.progress_bar import bar
from utils.untrusted import plain_file

Digests = dict[str, dict[str, str]]  # name of a record -> modality -> digest of its file


class Record(Protocol):
    """What a data set has of one sample: the files of each modality, and what is learned from it."""

    name: str  # unique in the data set, and the same in every run
    paths: dict[str, str]  # by modality: a file, or a folder of frames
    excerpt: str  # what of the files is shown
    content: bytes  # what is learned from it, but for the content of files


class Variant(NamedTuple):
    """How the inputs of a record are changed before a stream reads them; a black image is its own mirror image."""

    flip: bool = False
    black: bool = False
    scale: float = 1.0  # factor on the scale at which they fit

    @property
    def words(self) -> str:
        words = "black" if self.black else "mirrored" if self.flip else "plain"
        return words if self.scale == 1 else f"{words} at scale {self.scale:g}"


PLAIN = Variant()


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """The stores of a network's streams.

    Args:
        kind: of the features, one of the model's `feature_kinds`.
        inputs: stream -> the modalities that it reads.
        stores: stream -> its records.
        digests: of the records that samples are asked for.
    """

    kind: str
    inputs: dict[str, tuple[str, ...]]
    stores: dict[str, AnyStore]
    digests: Digests

    def key(self, stream: str, record: Record, variant: Variant = PLAIN) -> str:
        """Return the key of a record's features in the store of a stream."""
        digests = ["black" if variant.black else self.digests[record.name][m] for m in self.inputs[stream]]
        words = ["mirrored" if variant.flip else "plain", *([] if variant.scale == 1 else [repr(variant.scale)])]
        return "-".join([*digests, record.excerpt, *words])

    def read(self, record: Record, variant: Variant = PLAIN, black: str | None = None) -> dict[str, list[Tensor]]:
        """Return the features of each stream.

        Args:
            record: of the data set.
            variant: of the inputs, but for a black one.
            black: the modality whose input is black; a stream that reads it reads no other one.
        Raises:
            UserError: a file of the record could not be read when the cache was filled.
        """
        black_variant = Variant(black=True, scale=variant.scale)
        variants = {s: black_variant if black in self.inputs[s] else variant for s in self.stores}
        try:
            return {s: store[self.key(s, record, variants[s])] for s, store in self.stores.items()}
        except KeyError:
            reason = "a file of it cannot be read, or the cache was deleted"
            raise UserError(f"{record.name}: expected cached features, found none: {reason}") from None


class CachedDataset(Dataset):
    """The samples of a dataset with "features", by stream, and their "kind" in place of inputs, by the same draws."""

    def __init__(self, dataset: Any, cache: FeatureCache):
        self.dataset, self.cache, self.records = dataset, cache, dataset.records

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Any]:
        sample = self.dataset.target(key)
        variant = Variant(sample.get("flip", False), scale=sample.get("factor", 1.0))
        features = self.cache.read(self.records[key[0]], variant, sample.get("black"))
        return sample | {"features": features, "kind": self.cache.kind}


def digests_of(records: Iterable[Record]) -> Digests:
    """Hash the files of records. The digest of a file that cannot be opened is unlike all others, now and later.

    The ranks of a machine divide the work.
    """
    paths = {record.name: record.paths for record in records}
    shown = bar(ranks_here().shard(list(paths.items())), "hashing files")
    hashed = cache(digest)  # records may share a file
    return dict(ranks_here().all_gather([(name, {m: hashed(p) for m, p in files.items()}) for name, files in shown]))


def digest(path: str) -> str:
    """Return a hash of a file's content, or of the names, sizes and times of the files of a folder of frames."""
    hashed = hashlib.blake2b(digest_size=16)
    try:
        if os.path.isdir(path):
            files = sorted(os.scandir(path), key=lambda file: file.name)
            hashed.update(repr([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]).encode())
        else:
            hashed.update(plain_file(path).read_bytes())
    except OSError:
        hashed.update(os.urandom(16))
    return hashed.hexdigest()
