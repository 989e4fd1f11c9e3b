"""From --cache_features to loaders that give cached features: what fits, where, and what it takes, said beforehand."""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from datasets.detection.paired_detection import PairRecord
from datasets.feature_cache import FeatureCache, digests_of
from datasets.feature_store import DiskStore, MemoryStore, Shapes, Store
from datasets.loader import EVAL_BATCH_SIZE
from datasets.parts import Parts
from engine.features import KINDS, fill, record_shapes, store_key
from engine.step import Compute
from models.detection.detector import FusionDetector
from models.detection.streams import INPUTS
from utils.distributed import ranks_here
from utils.errors import UserError
from utils.free_space import free_disk, free_memory

GIB = 2**30
# Of what is free now, the share that `auto` takes, and that which is refused beyond: the training itself needs memory.
AUTO = {"ram": 0.5, "disk": 0.5}
MOST = {"ram": 0.9, "disk": 1.0}
DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}
Log = Callable[[str], None]


class Image(NamedTuple):
    """The images of a pair, mirrored or not, or black pictures of their size in their place."""

    record: PairRecord
    flip: bool
    black: bool = False


Images = list[Image]
Sources = dict[str, Images]  # key of a record: the images that it can be computed from
IMAGE_VARIANTS = ((False, False), (True, False), (False, True))  # flip, black: a black picture is its own mirror image


@dataclass(frozen=True)
class Plan:
    """One way to cache, "ram" or "disk"; by stream, `wanted` gives all records and `missing` those not there yet."""

    place: str
    cache: FeatureCache
    wanted: dict[str, Sources]
    missing: dict[str, Sources]

    @property
    def bytes(self) -> int:
        return sum(store.record_bytes * len(self.missing[stream]) for stream, store in self.cache.stores.items())

    def in_words(self) -> str:
        """Say what is kept where, and what it takes."""
        kept = "taps of every BiFPN repeat" if self.cache.kind == "taps" else "encoder maps"
        where = {str(s.folder) for s in self.cache.stores.values()} if self.place == "disk" else {"memory"}
        counts = " + ".join(f"{len(missing)} {stream}" for stream, missing in self.missing.items())
        return f"{kept}, in {', '.join(sorted(where))}: {counts} records to compute, {self.bytes / GIB:.2f} GiB"


def check_caching(args: argparse.Namespace, trains: bool) -> None:
    """Refuse options without effect, and a cache of images that training changes.

    Args:
        learns: whether the command trains, so that it augments images, and a dry run tells the sizes of a cache.
    """
    mode = args.cache_features
    used = {"off": ["cache_dtype"] if trains and args.dry_run else [], "ram": ["cache_level", "cache_dtype"]}
    unused = [
        n for n in ("cache_level", "cache_dtype", "cache_dir") if n in args.typed and n not in used.get(mode, [n])
    ]
    if unused:
        raise UserError(f"--{unused[0]}: no effect with --cache_features {mode}")
    if trains and mode in ("ram", "disk") and (reason := changing_images(args)):
        raise UserError(f"--cache_features {mode}: {reason}")


def cached(
    args: argparse.Namespace,
    parts: Parts,
    model: FusionDetector,
    compute: Compute,
    log: Log,
    learning: tuple[str, ...],
    plain: tuple[str, ...],
) -> Parts:
    """Return the parts with loaders that give cached features, as --cache_features says, after filling the cache.

    Args:
        model: on its device, in its memory layout.
        learning: parts whose pairs are mirrored as --hflip says.
        plain: parts whose pairs are taken as they are.

    Raises:
        UserError: no room, or a file that cannot be read.
    """
    mode, reason = args.cache_features, changing_images(args) if learning else ""
    if mode == "off":
        hint = "; --cache_features auto computes the streams once, not in every epoch"
        log(f"feature cache: off{hint if learning and not reason else ''}")
        return parts
    if reason:
        log(f"feature cache: off; {reason}")
        return parts
    ways = {}
    for plan in plans(args, parts, model, compute, images_of(args, parts, learning, plain)):
        ways[plan.place, plan.cache.kind] = plan

    def pick() -> tuple[str, str] | None:
        # Where each image is met once, only what is there already saves time.
        usable = [plan for plan in ways.values() if learning or mode != "auto" or not plan.bytes]
        plan = choose(mode, usable, args.cache_dir, log)
        return (plan.place, plan.cache.kind) if plan else None

    chosen = compute.ranks.broadcast_from_first(pick)
    return fill_all(ways[chosen], parts, model, compute, log) if chosen else parts


def images_of(args: argparse.Namespace, parts: Parts, learning: tuple[str, ...], plain: tuple[str, ...]) -> Images:
    """Return every image that will be met, and where training drops sensors a black one of each size."""
    flips = {0.0: [False], 1.0: [True]}.get(args.hflip, [False, True])
    images = [Image(record, flip) for record in parts.records(*learning) for flip in flips]
    sizes = {(r.width, r.height): r for r in parts.records(*learning)} if parts.options.modality_dropout else {}
    black = [Image(record, False, black=True) for record in sizes.values()]
    return images + [Image(record, False) for record in parts.records(*plain)] + black


def cache_sizes(
    args: argparse.Namespace,
    parts: Parts,
    model: FusionDetector,
    compute: Compute,
    learning: tuple[str, ...],
    plain: tuple[str, ...],
) -> dict[str, float]:
    """Return what a whole cache of each level would take, for a dry run; arguments as of `cached`."""
    if changing_images(args):
        return {}
    count, dtype = len(images_of(args, parts, learning, plain)), DTYPES[args.cache_dtype]
    sizes = {}
    for kind in KINDS:
        shapes = [record_shapes(model, m, kind, args.image_size, compute) for m in model.streams.modalities]
        sizes[f"cache_{kind}_mib"] = round(count * sum(Store(s, dtype).record_bytes for s in shapes) / 2**20, 1)
    return sizes


def changing_images(args: argparse.Namespace) -> str:
    """Return why no record could stand for an image throughout a training; nothing where one can."""
    why = "changes every image anew in each epoch, so its features cannot be kept"
    if tuple(args.scale_jitter) != (1, 1):
        return f"--scale_jitter {args.scale_jitter[0]:g} {args.scale_jitter[1]:g} {why}: expected 1 1"
    if args.photometric:
        return f"--photometric {args.photometric:g} {why}: expected 0"
    if getattr(args, "stream_lr", 0):  # an option of the found network alone
        return f"--stream_lr {args.stream_lr:g} trains the streams, so their features change: expected 0"
    return ""


def plans(
    args: argparse.Namespace, parts: Parts, model: FusionDetector, compute: Compute, images: Images
) -> Iterator[Plan]:
    """Give the ways to cache that the options leave open, the preferred one first."""
    auto, streams = args.cache_features == "auto", model.streams.modalities
    kinds = (args.cache_level,) if args.cache_level else KINDS if auto else KINDS[:1]
    shapes = {(m, kind): record_shapes(model, m, kind, args.image_size, compute) for m in streams for kind in kinds}
    digests = digests_of({image.record.file_name: image.record for image in images}.values())
    for place in ("ram", "disk") if auto else (args.cache_features,):
        for kind in kinds:
            stores = {m: make_store(args, parts, model, compute, m, kind, place, shapes[m, kind]) for m in streams}
            cache = FeatureCache(kind, tuple(args.image_size), {m: tuple(INPUTS[m]) for m in stores}, stores, digests)
            wanted = wanted_records(cache, images)
            missing = {s: {k: own for k, own in wanted[s].items() if k not in stores[s]} for s in stores}
            yield Plan(place, cache, wanted, missing)


def make_store(
    args: argparse.Namespace,
    parts: Parts,
    model: FusionDetector,
    compute: Compute,
    stream: str,
    kind: str,
    place: str,
    shapes: Shapes,
) -> Store:
    """Open the store of a stream; nothing is written yet."""
    dtype = DTYPES[args.cache_dtype]
    if place == "ram":
        return MemoryStore(shapes, dtype)
    facts = {"backbone": args.backbone, "image_size": args.image_size, "dtype": args.cache_dtype, "fill": parts.fill}
    facts |= {"thermal_counts": parts.data.thermal_counts}
    return DiskStore(shapes, dtype, Path(args.cache_dir) / store_key(model, stream, kind, facts, compute))


def wanted_records(cache: FeatureCache, images: Images) -> dict[str, Sources]:
    """Return, by stream, the records of the images; images of equal content share one."""
    wanted: dict[str, Sources] = {stream: {} for stream in cache.stores}
    for stream in cache.stores:
        for image in images:
            wanted[stream].setdefault(cache.key(stream, *image), []).append(image)
    return wanted


def choose(mode: str, ways: list[Plan], folder: str, log: Log) -> Plan | None:
    """Return the first plan for which there is room; a cache that is complete on disk is taken before all others.

    Raises:
        UserError: there is no room, and `mode` is not "auto".
    """
    free = {"ram": free_memory(), "disk": free_disk(Path(folder))}
    complete = [plan for plan in ways if plan.place == "disk" and not plan.bytes]
    share = AUTO if mode == "auto" else MOST
    fitting = complete + [plan for plan in ways if plan.bytes <= share[plan.place] * free[plan.place]]
    if fitting:
        return fitting[0]
    if not ways:
        log("feature cache: off; none on disk is complete, and each image is met once")
        return None
    told = f"{free['ram'] / GIB:.1f} GiB of memory and {free['disk'] / GIB:.1f} GiB on the disk of {folder} are free"
    if mode != "auto":
        raise UserError(
            f"--cache_features {mode}: expected room for {ways[0].bytes / GIB:.1f} GiB, found: {told}; "
            "--cache_level encoder and --cache_dtype bfloat16 take less"
        )
    log(f"feature cache: off; {told}, and no level fits into half of either")
    return None


def fill_all(plan: Plan, parts: Parts, model: FusionDetector, compute: Compute, log: Log) -> Parts:
    """Compute what is missing and return parts that use it; the ranks of each machine take turns at the images."""
    log(f"feature cache: {plan.in_words()}")
    here, started = ranks_here(), time.perf_counter()
    left = here.broadcast_from_first(lambda: [stream for stream, missing in plan.missing.items() if missing])
    while left:  # first what no other process computes at the moment
        stream = here.broadcast_from_first(lambda left=left: min(left, key=lambda name: plan.cache.stores[name].busy))
        fill_stream(plan, stream, parts, model, compute, log)
        left.remove(stream)
    parts.bad_files.merge(compute.ranks)
    if plan.bytes:
        log(f"feature cache: computed in {time.perf_counter() - started:.0f} s")
    return replace(parts, cache=plan.cache)


def fill_stream(plan: Plan, stream: str, parts: Parts, model: FusionDetector, compute: Compute, log: Log) -> None:
    """Compute what is missing of a stream, but what other processes did meanwhile.

    Where a file of an image cannot be read, the next one of equal content is taken.
    """
    store, wanted, here = plan.cache.stores[stream], plan.wanted[stream], ranks_here()
    with store.writing(len(plan.wanted[stream]), log, here):
        for attempt in range(max(len(images) for images in wanted.values())):
            for flip, black in IMAGE_VARIANTS:
                able = {k: images[attempt] for k, images in wanted.items() if len(images) > attempt}
                own = {k: image.record for k, image in able.items() if (image.flip, image.black) == (flip, black)}
                left = unfinished(own, store, min(parts.options.batch_size, EVAL_BATCH_SIZE))
                title = f"features of {stream}{', mirrored' if flip else ', black' if black else ''}"
                if left:
                    batches = parts.images(list(left.values()), flip, black)
                    fill(store, model, stream, plan.cache.kind, batches, list(left), compute, title)
                    store.note(here.all_gather([key for key in left if key in store]))


def unfinished(records: dict[str, PairRecord], store: Store, size: int) -> dict[str, PairRecord]:
    """Return the records of batches of which one is missing: a map's last digits may depend on those beside it.

    So a fill that was stopped goes on with the same numbers.
    """
    keys = list(records)
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    return {k: records[k] for batch in batches if any(k not in store for k in batch) for k in batch}
