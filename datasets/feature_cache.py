"""Samples whose images are replaced by what the frozen streams make of them, computed once per image and mirroring.

A record is found by content and annotated size of the image and by whether it is mirrored; its store belongs to one
state of one stream (engine/features.py). So a changed file, other weights or another input size never meet an old one.

Shapes: B batch; S streams; K maps of one shape per stream (R taps of a level, or 1 encoder map) of C channels, H x W.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datasets.detection.paired_detection import PairedDetectionDataset, PairRecord, PairsOf
from datasets.feature_store import Store
from utils.distributed import ranks_here
from utils.errors import UserError
from utils.progress_bar import bar

Digests = dict[str, dict[str, str]]  # file name of a pair -> modality -> digest of its file


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """The stores of a network's streams.

    Args:
        kind: what a record holds: "taps", the maps (R, H, W, C) of each level, or "encoder", three maps (1, H, W, C).
        image_size: (height, width) of the letterboxed images.
        inputs: stream -> the modalities that it reads.
        stores: stream -> its records.
        digests: of the pairs that samples are asked for.
    """

    kind: str
    image_size: tuple[int, int]
    inputs: dict[str, tuple[str, ...]]
    stores: dict[str, Store]
    digests: Digests

    def key(self, stream: str, record: PairRecord, flip: bool, black: bool = False) -> str:
        """Return the key of a pair's record of a stream; `black`: of black pictures of the pair's size."""
        digests = ["black" if black else self.digests[record.file_name][m] for m in self.inputs[stream]]
        return "-".join([*digests, f"{record.width}x{record.height}", "mirrored" if flip else "plain"])

    def read(self, record: PairRecord, flip: bool, black: str | None = None) -> list[list[Tensor]]:
        """Give the maps of each stream; UserError for a pair that could not be read when they were computed.

        Args:
            black: the modality whose picture is black; a stream that reads it reads no other one.
        """
        try:
            maps = {stream: store[self.key(stream, record, flip)] for stream, store in self.stores.items()}
            dead = [stream for stream in maps if black in self.inputs[stream]]
            maps |= {stream: self.stores[stream][self.key(stream, record, False, black=True)] for stream in dead}
            return list(maps.values())
        except KeyError:
            why = "a file of the pair cannot be read, or the cache was deleted"
            raise UserError(f"{record.file_name}: expected cached features, found none: {why}") from None


class CachedDataset(PairsOf):
    """The samples of a dataset with "features", maps by stream, in the place of images; the same draws decide both."""

    def __init__(self, dataset: PairedDetectionDataset, cache: FeatureCache):
        super().__init__(dataset)
        self.cache = cache

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        sample = self.dataset.target(key)
        features = self.cache.read(self.records[key[0]], sample["flip"], self.dataset.black(key))
        return {**sample, "features": features, "kind": self.cache.kind, "image_size": self.cache.image_size}


def join_features(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Join what a detector reads in the place of images: {kind: maps (S * K, B, C, H, W), "image_size"}."""
    by_map = zip(*(zip(*sample["features"]) for sample in samples))
    return {samples[0]["kind"]: [_stack(maps) for maps in by_map], "image_size": samples[0]["image_size"]}


def _stack(samples: tuple[tuple[Tensor, ...], ...]) -> Tensor:
    """Join B samples of S maps (K, H, W, C) each into (S * K, B, C, H, W), channels last in memory."""
    streams, (count, *rest) = len(samples[0]), samples[0][0].shape
    joined = torch.empty(streams * count, len(samples), *rest, dtype=samples[0][0].dtype)
    for place, maps in enumerate(samples):
        for stream, one in enumerate(maps):
            joined[stream * count : (stream + 1) * count, place] = one
    return joined.movedim(-1, 2)


def digests_of(records: Iterable[PairRecord]) -> Digests:
    """Hash the image files of pairs; the digest of a file that cannot be opened is like no other, now and later.

    The ranks of a machine divide the work.
    """
    paths = {record.file_name: {"rgb": record.rgb_path, "thermal": record.thermal_path} for record in records}
    shown = bar(ranks_here().shard(list(paths.items())), "hashing images")
    return dict(
        ranks_here().all_gather([(name, {m: _digest(path) for m, path in both.items()}) for name, both in shown])
    )


def _digest(path: str) -> str:
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for ever
            return os.urandom(16).hex()
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    except OSError:
        return os.urandom(16).hex()
