"""Reads the config of a fusion study, a YAML file (configs/study.yaml), into methods with their seeds.

A method has one row per seed. Its `kind` is single (one sensor), handmade, widened (a hand-made fusion with as many
parameters as a searched one), random (a genotype drawn uniformly) or searched.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fusion_study.values import DRAWN, Reader
from datasets.road_scenes import SIZES
from models.detection.baselines import FUSIONS
from tools.demo.tasks import BOX_FUSIONS, SINGLE, TRAINED_FUSIONS
from utils.untrusted import read_yaml

KINDS = ("single", "handmade", "widened", "random", "searched")
ROAD_SCENES, FOLDER = "road_scenes", "folder"
KEYS = ("commands", "data", *SIZES, "seeds", "single", "handmade", "widened", "widen_to", "random", "searched")
KEYS = (*KEYS, "kendall", "sensor_failure")
TAKEN = (*SINGLE, *TRAINED_FUSIONS, *BOX_FUSIONS, *KINDS, "kendall", "sensor_failure")


@dataclass(frozen=True)
class Method:
    """One method. `train`: options that say what to train; `search`: options of its search, None without one."""

    name: str
    kind: str
    seeds: tuple[int, ...]
    train: tuple[str, ...] = ()
    search: tuple[str, ...] | None = None

    @property
    def slug(self) -> str:
        """The name as a part of names of commands and runs."""
        return self.name.replace(" ", "_")

    @property
    def group(self) -> str:
        """The name, without the number for random genotypes."""
        return group_of(self.name, self.kind)


def group_of(name: str, kind: str) -> str:
    """Return the name of a method; random genotypes share one, without the number."""
    return name.rpartition(" ")[0] if kind == "random" else name


@dataclass(frozen=True)
class Kendall:
    """Genotypes that a supernet rates, on its weights and after brief training; each is trained with two seeds."""

    search: tuple[str, ...]
    brief_epochs: int
    genotypes: tuple[Method, ...]
    seeds: tuple[int, ...]
    second_training_seed: int


@dataclass(frozen=True)
class Failing:
    """Methods to test with one sensor black, trained without modality dropout and with this probability of it."""

    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    dropout: float


@dataclass(frozen=True)
class Study:
    """A study config. `commands`: the config of all its commands; `sizes`: options of the rendered scenes."""

    name: str
    path: str
    commands: str
    rendered: bool
    sizes: dict[str, int]
    seeds: tuple[int, ...]
    methods: tuple[Method, ...]
    kendall: Kendall | None
    failing: Failing | None

    def search_name(self, words: tuple[str, ...]) -> str:
        """Return the name of the search with these options; the search of a method has the method's name."""
        same = [m.slug for m in self.methods if m.kind == "searched" and m.search == words]
        return f"search_{same[0] if same else 'kendall'}"


def read_study(path: str) -> Study:
    """Read a study config.

    Raises:
        UserError: the file cannot be read, or a key or value is wrong.
    """
    read, data = Reader(path), read_yaml(path, f"--config {path}")
    data = read.mapping("the file", data, KEYS)
    commands, place = data.get("commands"), data.get("data")
    if not isinstance(commands, str) or not Path(commands).is_file():
        raise read.fail("commands", "the config file of all commands", commands)
    if place not in (ROAD_SCENES, FOLDER):
        raise read.fail("data", f"{ROAD_SCENES}, or {FOLDER} for one that --data names", place)
    given = [name for name in SIZES if name in data]
    if place == FOLDER and given:
        raise read.fail(given[0], f"none with data: {FOLDER}, whose pairs are there", data[given[0]])
    sizes = {name: read.number(name, data.get(name, size), 1) for name, size in SIZES.items()}
    seeds = read.seeds("seeds", data.get("seeds"))
    searched = _searched(read, data, seeds)
    simple = _hand_made(read, data, seeds, {m.name: m for m in searched})
    methods = (*simple, *_random(read, data.get("random"), seeds), *searched)
    if not methods:
        raise read.fail("the file", f"methods: some of {', '.join(KINDS)}", "none")
    if twice := {m.group for m in methods if m.kind == "random"} & {m.group for m in methods if m.kind != "random"}:
        raise read.fail("random", "names of no other method", min(twice))
    sizes = sizes if place == ROAD_SCENES else dict.fromkeys(sizes)
    more = _kendall(read, data, seeds, methods), _failing(read, data, seeds, methods)
    return Study(Path(path).stem, path, commands, place == ROAD_SCENES, sizes, seeds, methods, *more)


def _searched(read: Reader, data: dict, seeds: tuple[int, ...]) -> tuple[Method, ...]:
    methods = []
    for name, entry in read.mapping("searched", data.get("searched") or {}).items():
        key = f"searched: {name}"
        if not name.replace(" ", "").replace("-", "").replace("_", "").isalnum() or name in TAKEN:
            raise read.fail(key, "a name of letters, digits, spaces and -, of no other method", name)
        entry = read.mapping(key, entry or {}, ("seeds", "search"))
        method_seeds = read.seeds(f"{key}: seeds", entry["seeds"]) if "seeds" in entry else seeds
        words = read.options(f"{key}: search", entry.get("search") or {}, "search")
        methods.append(Method(name, "searched", method_seeds, ("--search_exp_dir",), words))
    return tuple(methods)


def _hand_made(read: Reader, data: dict, seeds: tuple[int, ...], searched: dict[str, Method]) -> list[Method]:
    single = read.choices("single", data.get("single", []), SINGLE)
    raw = read.choices("handmade", data.get("handmade", []), (*TRAINED_FUSIONS, *BOX_FUSIONS))
    if any(m in BOX_FUSIONS for m in raw) and len(single) < len(SINGLE):
        raise read.fail("single", f"{', '.join(SINGLE)}, since their boxes are fused", list(single))
    widened = read.choices("widened", data.get("widened", []), FUSIONS)
    to = data.get("widen_to")
    if widened and to not in searched:
        raise read.fail("widen_to", f"one of the searched: {', '.join(searched) or 'there is none'}", to)
    methods = [Method(name, "single", seeds, ("--baseline", name)) for name in single]
    methods += [Method(name, "handmade", seeds, ("--baseline", name)) for name in raw]
    words = ("--baseline", "{}", "--match_parameters")
    for name in widened:
        train = tuple(name if word == "{}" else word for word in words)
        methods.append(Method(f"{name} widened", "widened", seeds, train, searched[to].search))
    return methods


def _random(read: Reader, entry: Any, seeds: tuple[int, ...]) -> tuple[Method, ...]:
    methods = []
    for name, group in read.mapping("random", entry or {}).items():
        key = f"random: {name}"
        group = read.mapping(key, group, ("seeds", "count", "options"))
        group_seeds = read.seeds(f"{key}: seeds", group["seeds"]) if "seeds" in group else seeds
        words = read.options(f"{key}: options", group.get("options") or {}, "found")
        numbers = range(read.number(f"{key}: count", group.get("count"), 1))
        methods += [
            Method(f"{name} {n}", "random", group_seeds, ("--random_genotype", str(n), *words)) for n in numbers
        ]
    return tuple(methods)


def _kendall(read: Reader, data: dict, seeds: tuple[int, ...], methods: tuple[Method, ...]) -> Kendall | None:
    if "kendall" not in data:
        return None
    names = ("search", "brief_epochs", "genotypes", "seeds", "second_training_seed")
    entry = read.mapping("kendall", data["kendall"], names)
    kendall_seeds = read.seeds("kendall: seeds", entry["seeds"]) if "seeds" in entry else seeds
    search = entry.get("search") or {}
    words = read.options("kendall: search", search, "search")
    space = read.options("kendall: search", {k: v for k, v in search.items() if k in DRAWN}, "found")
    second = read.number("kendall: second_training_seed", entry.get("second_training_seed"))
    if second in kendall_seeds:
        raise read.fail("kendall: second_training_seed", "another seed than the first", second)
    numbers = range(read.number("kendall: genotypes", entry.get("genotypes"), 2))
    ranked = [Method(f"ranked {n}", "random", kendall_seeds, ("--random_genotype", str(n), *space)) for n in numbers]
    rows = {m.train: m for m in methods}  # a genotype that is a method as well is trained only once
    brief = read.number("kendall: brief_epochs", entry.get("brief_epochs", 1), 1)
    return Kendall(words, brief, tuple(rows.get(m.train, m) for m in ranked), kendall_seeds, second)


def _failing(read: Reader, data: dict, seeds: tuple[int, ...], methods: tuple[Method, ...]) -> Failing | None:
    if "sensor_failure" not in data:
        return None
    key = "sensor_failure"
    entry = read.mapping(key, data[key], ("methods", "seeds", "modality_dropout"))
    failing_seeds = read.seeds(f"{key}: seeds", entry["seeds"]) if "seeds" in entry else seeds
    allowed = {m.name: m for m in methods if m.kind != "single" and m.name not in BOX_FUSIONS}
    names = read.choices(f"{key}: methods", entry.get("methods"), tuple(allowed))
    dropout = entry.get("modality_dropout")
    if not isinstance(dropout, float) or not 0 < dropout < 1:
        raise read.fail(f"{key}: modality_dropout", "a number between 0 and 1", dropout)
    return Failing(tuple(allowed[name] for name in names), failing_seeds, dropout)


def content_hash(value: Any) -> str:
    """Return a hash of a plain value, 8 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
