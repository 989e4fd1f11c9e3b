"""--cache_features: loaders that give the features of frozen streams, which are computed once.

What fits, where, and how much room it takes is decided before anything is computed.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datasets.data_module import DataModule
from datasets.feature_cache import FeatureCache, digests_of
from datasets.feature_store import AnyStore, DiskStore, MemoryStore, Store
from engine.feature_fill import Encoding, Inputs, Sources
from engine.free_space import free_disk, free_memory
from engine.progress import Log
from utils.distributed import ranks_here
from utils.errors import UserError

GIB = 2**30
# The share of free room that `auto` takes, and the share beyond which a mode is refused: training needs memory, too.
AUTO = {"ram": 0.5, "disk": 0.5}
MOST = {"ram": 0.9, "disk": 1.0}
DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}
KIND_WORDS = {
    "taps": "taps of every BiFPN repeat",
    "encoder": "encoder maps",
    "pooled": "pooled taps",
    "vector": "vectors that classifiers read",
}


@dataclass(frozen=True)
class Plan:
    """One way to cache, in "ram" or on "disk"; by stream, all `wanted` records, and those that are `missing`."""

    place: str
    cache: FeatureCache
    wanted: dict[str, Sources]
    missing: dict[str, Sources]

    @property
    def bytes(self) -> int:
        return sum(store.record_bytes * len(self.missing[stream]) for stream, store in self.cache.stores.items())

    def in_words(self) -> str:
        """Say what is kept where, and how much room it takes."""
        folders = {str(s.folder) if isinstance(s, DiskStore) else "memory" for s in self.cache.stores.values()}
        counts = " + ".join(f"{len(missing)} {stream}" for stream, missing in self.missing.items())
        kept = f"{KIND_WORDS[self.cache.kind]}, in {', '.join(sorted(folders))}"
        return f"{kept}: {counts} records to compute, {self.bytes / GIB:.2f} GiB"


def why_changing(data_module: DataModule, learning: str = "") -> str:
    """Return why no cached features could stand for an input throughout a training; "" where they can.

    `learning`: why the streams change themselves; "": they are frozen.
    """
    return data_module.data.changing or learning


@dataclass(frozen=True)
class CacheOptions:
    """What of frozen streams is kept, and where.

    Args:
        mode: of --cache_features: off, ram, disk or auto.
        level: the kind of features, one of the model's; None: the first one, or of auto the first that fits.
        dtype: of the features, one of DTYPES.
        folder: of the files.
        learning: why the streams change while the network is trained; "": they are frozen.
    """

    mode: str = "off"
    level: str | None = None
    dtype: str = "float32"
    folder: str = "cache"
    learning: str = ""


def cached(
    encoding: Encoding, options: CacheOptions, log: Log, learning: Sequence[str] = (), plain: Sequence[str] = ()
) -> DataModule:
    """Return the data with loaders that give cached features, after computing what is missing.

    Args:
        log: gets a line on what is cached where.
        learning: parts that are trained on, with the variants of training.
        plain: parts that are read as they are.

    Raises:
        UserError: there is no room, or a file cannot be read.
    """
    data, mode = encoding.data, options.mode
    if not encoding.model.feature_kinds:
        log("feature cache: off; the network has no streams whose features could be kept")
        return data
    changing = why_changing(data, options.learning) if learning else ""
    if mode == "off" or changing:
        hint = "; --cache_features auto computes the streams once, not in every epoch"
        log(f"feature cache: off{f'; {changing}' if mode != 'off' else hint if learning and not changing else ''}")
        return data
    plans = {(p.place, p.cache.kind): p for p in make_plans(encoding, options, _inputs(data, learning, plain))}

    def pick() -> tuple[str, str] | None:
        # Where each input is read once, caching saves time only if the cache is complete.
        usable = [plan for plan in plans.values() if learning or mode != "auto" or not plan.bytes]
        plan = choose(mode, usable, options.folder, log)
        return (plan.place, plan.cache.kind) if plan else None

    chosen = encoding.compute.ranks.broadcast_from_first(pick)
    return fill_all(plans[chosen], encoding, log) if chosen else data


def _inputs(data_module: DataModule, learning: Sequence[str], plain: Sequence[str]) -> Inputs:
    """Return every input that will be read, once."""
    inputs = data_module.data.variants(data_module.records(*learning), train=True)
    inputs += data_module.data.variants(data_module.records(*plain), train=False)
    return list({(record.name, variant): (record, variant) for record, variant in inputs}.values())


def cache_sizes(
    encoding: Encoding, options: CacheOptions, learning: Sequence[str], plain: Sequence[str]
) -> dict[str, float]:
    """Return the size of a whole cache of each kind in MiB, for a dry run; arguments as of `cached`."""
    data, model = encoding.data, encoding.model
    if why_changing(data, options.learning):
        return {}
    inputs, sizes = _inputs(data, learning, plain), {}
    records = [record for record, _ in inputs]
    for kind in model.feature_kinds:
        shapes = [encoding.shapes(stream, kind, records) for stream in model.stream_inputs]
        room = sum(Store(s, DTYPES[options.dtype]).record_bytes for s in shapes)
        sizes[f"cache_{kind}_mib"] = round(len(inputs) * room / 2**20, 1)
    return sizes


def make_plans(encoding: Encoding, options: CacheOptions, inputs: Inputs) -> Iterator[Plan]:
    """Give the plans that the options leave open, the preferred one first."""
    mode, dtype, streams = options.mode, DTYPES[options.dtype], encoding.model.stream_inputs
    kinds = (options.level,) if options.level else encoding.model.feature_kinds[: None if mode == "auto" else 1]
    records = list({record.name: record for record, _ in inputs}.values())
    shapes = {(stream, kind): encoding.shapes(stream, kind, records) for stream in streams for kind in kinds}
    digests = digests_of(records)

    def store(stream: str, kind: str, place: str) -> AnyStore:
        if place == "ram":
            return MemoryStore(shapes[stream, kind], dtype)
        folder = Path(options.folder) / encoding.store_key(stream, kind, options.dtype)
        return DiskStore(shapes[stream, kind], dtype, folder)

    for place in ("ram", "disk") if mode == "auto" else (mode,):
        for kind in kinds:
            cache = FeatureCache(kind, streams, {s: store(s, kind, place) for s in streams}, digests)
            wanted = {stream: _sources(cache, stream, inputs) for stream in streams}
            missing = {s: {k: v for k, v in wanted[s].items() if k not in cache.stores[s]} for s in streams}
            yield Plan(place, cache, wanted, missing)


def _sources(cache: FeatureCache, stream: str, inputs: Inputs) -> Sources:
    """Return the records of a stream; inputs of equal content share one."""
    sources: Sources = {}
    for record, variant in inputs:
        sources.setdefault(cache.key(stream, record, variant), []).append((record, variant))
    return sources


def choose(mode: str, plans: list[Plan], folder: str, log: Log) -> Plan | None:
    """Return the first plan for which there is room; a cache that is complete on disk is taken before all others.

    Raises:
        UserError: there is no room, and `mode` is not "auto".
    """
    free = {"ram": free_memory(), "disk": free_disk(Path(folder))}
    complete = [plan for plan in plans if plan.place == "disk" and not plan.bytes]
    share = AUTO if mode == "auto" else MOST
    fitting = complete + [plan for plan in plans if plan.bytes <= share[plan.place] * free[plan.place]]
    if fitting:
        return fitting[0]
    if not plans:
        log("feature cache: off; none on disk is complete, and each input is read once")
        return None
    room = f"{free['ram'] / GIB:.1f} GiB of memory and {free['disk'] / GIB:.1f} GiB on the disk of {folder} are free"
    if mode != "auto":
        advice = "--cache_level encoder and --cache_dtype bfloat16 take less"
        expected = f"expected room for {plans[0].bytes / GIB:.1f} GiB"
        raise UserError(f"--cache_features {mode}: {expected}, found: {room}; {advice}")
    log(f"feature cache: off; {room}, and no level fits into half of either")
    return None


def fill_all(plan: Plan, encoding: Encoding, log: Log) -> DataModule:
    """Compute what is missing and return data that use it; the ranks of each machine take turns at the batches."""
    log(f"feature cache: {plan.in_words()}")
    here, started = ranks_here(), time.perf_counter()
    left = here.broadcast_from_first(lambda: [stream for stream, missing in plan.missing.items() if missing])
    while left:  # first a stream that no other process computes at the moment
        stream = here.broadcast_from_first(lambda: min(left, key=lambda name: plan.cache.stores[name].busy))
        encoding.fill(plan.cache, stream, plan.wanted[stream], log)
        left.remove(stream)
    encoding.data.bad_files.merge(encoding.compute.ranks)
    if plan.bytes:
        log(f"feature cache: computed in {time.perf_counter() - started:.0f} s")
    return replace(encoding.data, cache=plan.cache)
