"""--cache_features of classifiers: pooled taps of the frozen encoders, computed once per example."""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import av
import torch

from datasets import images, resize
from datasets.classification import clips, ego_gesture, mmimdb, ntu, skeletons
from datasets.classification import examples as labelled
from datasets.classification.examples import Example
from datasets.feature_store import DiskStore, MemoryStore, Store
from datasets.labelled_parts import LabelledParts
from datasets.pooled_cache import PooledCache, keys_of
from engine.feature_caching import DTYPES, GIB, choose
from engine.features import content_name
from engine.step import Compute, move
from models.classification import encoders
from models.classification import fused_classifier as fusion_classifier
from models.classification.fused_classifier import FusionClassifier
from utils.distributed import ranks_here
from utils.errors import UserError
from utils.progress_bar import bar

# From a file to its features.
CACHE_KEY_MODULES = (images, resize, labelled, mmimdb, ntu, skeletons, ego_gesture, clips, fusion_classifier)
CACHE_KEY_MODULES += (encoders, encoders.clips, encoders.hcn, encoders.maxout, encoders.timm_maps, encoders.vgg)


class Way(NamedTuple):
    """A place of the cache, and what is missing in it, in bytes."""

    place: str
    cache: PooledCache
    bytes: int


def check_caching(args: argparse.Namespace) -> None:
    """Refuse options without effect, and a cache of inputs that training changes."""
    mode = args.cache_features
    unused = {"off": ("cache_dtype", "cache_dir"), "ram": ("cache_dir",)}.get(mode, ())
    if typed := [name for name in unused if name in args.typed]:
        raise UserError(f"--{typed[0]}: no effect with --cache_features {mode}")
    why = "--augment" if getattr(args, "augment", False) else "--stream_lr" if getattr(args, "stream_lr", 0) else ""
    if why and mode in ("ram", "disk"):
        raise UserError(f"--cache_features {mode}: {why} changes features in each epoch: expected none beside it")


def cached(
    args: argparse.Namespace,
    parts: LabelledParts,
    model: FusionClassifier,
    compute: Compute,
    log: Callable[[str], None],
    wanted: tuple[str, ...],
) -> LabelledParts:
    """Return the parts with loaders that give pooled taps, as --cache_features says, after computing what is missing.

    Args:
        wanted: parts whose examples will be met.

    Raises:
        UserError: no room, or a file that cannot be read.
    """
    mode = args.cache_features
    if mode == "off" or getattr(args, "augment", False) or getattr(args, "stream_lr", 0):
        log("feature cache: off")
        return parts
    records = {example.name: example for example in parts.records(*wanted)}
    keys = keys_of(records.values(), parts.modalities)
    places = ("ram", "disk") if mode == "auto" else (mode,)
    shapes = {m: shapes_of(list(records.values()), parts, model, compute, m) for m in parts.modalities}
    ways = {}
    for place in places:
        stores = {m: make_store(args, model, compute, m, place, shapes[m]) for m in parts.modalities}
        missing = sum(s.record_bytes * len({keys[n][m] for n in records} - set(s.slots)) for m, s in stores.items())
        ways[place] = Way(place, PooledCache(stores, keys), missing)

    def pick() -> str:
        way = choose(mode, list(ways.values()), args.cache_dir, log)
        return way.place if way else ""

    chosen = compute.ranks.broadcast_from_first(pick)
    return fill(ways[chosen], parts, model, compute, log, records) if chosen else parts


def shapes_of(
    examples: list[Example], parts: LabelledParts, model: FusionClassifier, compute: Compute, modality: str
) -> tuple:
    """Return the shapes (c, L or 1) of an example's pooled taps, from the first that can be read."""
    batch = next(iter(parts.plain_loader(examples, modality)), None)
    if batch is None:
        raise UserError(f"{examples[0].files[modality]}: expected examples that can be read, found none")
    return tuple(tuple(tap.shape[1:]) for tap in taps_of(model, batch, modality, compute))


def taps_of(model: FusionClassifier, batch: dict, modality: str, compute: Compute) -> list[torch.Tensor]:
    """Return a batch's pooled taps on the CPU."""
    model.eval()
    with compute.autocast(), torch.compiler.set_stance("force_eager"):
        return [tap.float().cpu() for tap in model.features(move(batch["inputs"], compute.device)[modality], modality)]


def make_store(
    args: argparse.Namespace, model: FusionClassifier, compute: Compute, modality: str, place: str, shapes: tuple
) -> Store:
    """Open the store of a modality; nothing is written yet."""
    dtype = DTYPES[args.cache_dtype]
    if place == "ram":
        return MemoryStore(shapes, dtype)
    facts = [modality, av.__version__, args.backbone, args.L, args.cache_dtype, compute.device.type, compute.amp]
    name = content_name(facts, model.streams.encoder(modality).state_dict(), CACHE_KEY_MODULES)
    return DiskStore(shapes, dtype, Path(args.cache_dir) / name)


def fill(
    way: Way,
    parts: LabelledParts,
    model: FusionClassifier,
    compute: Compute,
    log: Callable[[str], None],
    records: dict[str, Example],
) -> LabelledParts:
    """Compute what is missing and return parts that use it; the ranks of each machine take turns at the examples."""
    here, started = ranks_here(), time.perf_counter()
    for modality, store in way.cache.stores.items():
        by_key = {way.cache.keys[name][modality]: example for name, example in records.items()}
        with store.writing(max(len(by_key), 1), log, here):
            missing = {key: example for key, example in by_key.items() if key not in store}
            log(f"feature cache in {way.place}: {len(missing)} of {len(by_key)} examples of {modality} to compute")
            keys, loader = list(missing), parts.plain_loader(list(missing.values()), modality, here)
            for batch in bar(loader, f"features of {modality}") if missing else ():
                taps = taps_of(model, batch, modality, compute)
                places = enumerate(batch["image_ids"])
                store.add({keys[place]: [tap[row] for tap in taps] for row, place in places})
    parts.bad_files.merge(compute.ranks)
    took = time.perf_counter() - started
    log(f"feature cache: {way.bytes / GIB:.3f} GiB computed in {took:.0f} s")
    return replace(parts, cache=way.cache)
