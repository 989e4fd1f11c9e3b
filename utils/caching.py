"""From --cache_features to loaders that give cached features: what fits, where, and what it takes, said beforehand."""

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datasets.feature_cache import FeatureCache, digests_of
from datasets.feature_store import DiskStore, MemoryStore, Store
from datasets.paired_detection import PairRecord
from datasets.parts import Parts
from engine.features import KINDS, fill, record_shapes, store_key
from engine.step import Compute
from models.fusion_detector import INPUTS, FusionDetector
from utils.errors import UserError

GIB = 2**30
# Of what is free now, the share that `auto` takes, and that which is refused beyond: the training itself needs memory.
AUTO = {"ram": 0.5, "disk": 0.5}
MOST = {"ram": 0.9, "disk": 1.0}
DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}
Images = list[tuple[PairRecord, bool]]  # pairs, mirrored or not
Log = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """One way to cache: `place` is "ram" or "disk"; `missing` gives, by stream, what must be computed, by key."""

    place: str
    cache: FeatureCache
    missing: dict[str, dict[str, tuple[PairRecord, bool]]]

    @property
    def bytes(self) -> int:
        return sum(store.record_bytes * len(self.missing[stream]) for stream, store in self.cache.stores.items())

    def in_words(self) -> str:
        """Say what is kept where, and what it takes."""
        kept = "taps of every BiFPN repeat" if self.cache.kind == "taps" else "encoder maps"
        where = {str(s.folder) for s in self.cache.stores.values()} if self.place == "disk" else {"memory"}
        counts = " + ".join(f"{len(missing)} {stream}" for stream, missing in self.missing.items())
        return f"{kept}, in {', '.join(sorted(where))}: {counts} records to compute, {self.bytes / GIB:.2f} GiB"


def check_caching(args: argparse.Namespace, learns: bool) -> None:
    """Refuse options without effect, and a cache of images that training changes.

    Args:
        learns: whether the command trains, so that it augments images.
    """
    unused = [n for n in ("cache_level", "cache_dtype", "cache_dir") if n in args.typed]
    if unused and args.cache_features == "off" and not args.dry_run:  # which tells the sizes of a cache
        raise UserError(f"--{unused[0]}: no effect with --cache_features off: expected ram, disk or auto")
    if learns and args.cache_features in ("ram", "disk") and (reason := changing_images(args)):
        raise UserError(f"--cache_features {args.cache_features}: {reason}")


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
    if mode == "off" or (reason and mode == "auto"):
        log(f"feature cache: off; {reason or '--cache_features auto computes the streams once, not in every epoch'}")
        return parts
    ways = list(plans(args, parts, model, compute, images_of(args, parts, learning, plain)))
    if mode == "auto" and not learning:  # each image is met once: only what is there already saves time
        ways = [plan for plan in ways if not plan.bytes]
    plan = choose(mode, ways, args.cache_dir, log)
    return fill_all(plan, parts, model, compute, log) if plan else parts


def images_of(args: argparse.Namespace, parts: Parts, learning: tuple[str, ...], plain: tuple[str, ...]) -> Images:
    """Return every image that will be met."""
    flips = {0.0: [False], 1.0: [True]}.get(args.hflip, [False, True])
    images = [(record, flip) for record in parts.records(*learning) for flip in flips]
    return images + [(record, False) for record in parts.records(*plain)]


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
    """Return why no record could stand for an image; nothing where one can."""
    why = "changes every image anew in each epoch, so its features cannot be kept"
    if tuple(args.scale_jitter) != (1, 1):
        return f"--scale_jitter {args.scale_jitter[0]:g} {args.scale_jitter[1]:g} {why}: expected 1 1"
    return f"--photometric {args.photometric:g} {why}: expected 0" if args.photometric else ""


def plans(
    args: argparse.Namespace, parts: Parts, model: FusionDetector, compute: Compute, images: Images
) -> Iterator[Plan]:
    """Give the ways to cache that the options leave open, the preferred one first."""
    auto = args.cache_features == "auto"
    digests = digests_of({record.file_name: record for record, _ in images}.values())
    for place in ("ram", "disk") if auto else (args.cache_features,):
        for kind in (args.cache_level,) if args.cache_level else KINDS if auto else KINDS[:1]:
            stores = {m: make_store(args, parts, model, compute, m, kind, place) for m in model.streams.modalities}
            cache = FeatureCache(kind, tuple(args.image_size), {m: tuple(INPUTS[m]) for m in stores}, stores, digests)
            yield Plan(place, cache, missing_records(cache, images))


def make_store(
    args: argparse.Namespace, parts: Parts, model: FusionDetector, compute: Compute, stream: str, kind: str, place: str
) -> Store:
    """Open the store of a stream; nothing is written yet."""
    shapes, dtype = record_shapes(model, stream, kind, args.image_size, compute), DTYPES[args.cache_dtype]
    if place == "ram":
        return MemoryStore(shapes, dtype)
    facts = {"backbone": args.backbone, "image_size": args.image_size, "dtype": args.cache_dtype, "fill": parts.fill}
    facts |= {"thermal_counts": parts.data.thermal_counts}
    return DiskStore(shapes, dtype, Path(args.cache_dir) / store_key(model, stream, kind, facts, compute))


def missing_records(cache: FeatureCache, images: Images) -> dict[str, dict[str, tuple[PairRecord, bool]]]:
    """Return, by stream, the images that have no record yet, by key."""
    by_key = {stream: {cache.key(stream, *image): image for image in images} for stream in cache.stores}
    return {s: {k: image for k, image in keys.items() if k not in cache.stores[s]} for s, keys in by_key.items()}


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
    """Compute what is missing and return parts that use it."""
    log(f"feature cache: {plan.in_words()}")
    started = time.perf_counter()
    for stream, store in plan.cache.stores.items():
        if plan.missing[stream]:
            with store.writing(len(plan.missing[stream]), log):
                for flip in (False, True):
                    left = {k: i for k, i in plan.missing[stream].items() if i[1] == flip and k not in store}
                    batches = parts.images([record for record, _ in left.values()], flip)
                    title = f"features of {stream}{', mirrored' if flip else ''}"
                    if left:
                        fill(store, model, stream, plan.cache.kind, batches, list(left), compute, title)
    if plan.bytes:
        log(f"feature cache: computed in {time.perf_counter() - started:.0f} s")
    return replace(parts, cache=plan.cache)


def free_memory() -> int:
    """Return the bytes of memory that are free: of the machine, and of the container where its limit is lower."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not told here: half of what there is
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or no limit
        return free
    return min(free, limit - used)


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where the folder is, or will be."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(existing).free
