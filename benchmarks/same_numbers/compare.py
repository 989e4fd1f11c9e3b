"""Compare what commands have written on two sides: every number exactly, but for times, and for what says when.

A file's form may change on purpose: a genotype of format 2 is turned into format 1 before it is compared. Options that
one side alone has, and entries of results.json that B alone has, are remarks and no differences.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

STEMS = ("genotype", "detections", "predictions", "results", "robustness", "evolution", "discretisation", "costs")
NAMES = {f"{stem}.json" for stem in (*STEMS, "split", "pretrain", "args")} | {"metrics.jsonl", "alphas.jsonl"}
TENSORS = re.compile(r"best.*\.pt|.*\.pth(\.tar)?")
TIMES = re.compile(r".*(seconds|_per_s|_mb)|commit|latency")
MOMENT = re.compile(r"-\d{8}-\d{6}(-\d+)?(?![\w-])")  # in a run folder's name
NOTHING = "nothing"
SHOWN = 60  # characters of a value


class Difference(NamedTuple):
    """What two sides have at a key of a file, in words."""

    file: str
    key: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.a} / {self.b}"


class Comparison:
    """Differences between pairs of folders, of one pair after the other.

    Attributes:
        num_files: number of compared files.
        differences: found so far.
        remarks: how many files each remark is about, by its text.
    """

    def __init__(self):
        self.num_files, self.differences, self.notes = 0, [], Counter()

    def compare(self, a: Path, b: Path, name: str) -> None:
        """Compare the files of two folders that hold numbers; `name` stands before the files' names in the report."""
        files_a, files_b = files_of(a), files_of(b)
        for file in sorted(files_a.keys() | files_b.keys()):
            if file not in files_a:
                self.notes[f"{Path(file).name}: B alone has it"] += 1
            elif file not in files_b:
                self.differences.append(Difference(f"{name}/{file}", "file", "there", NOTHING))
            else:
                self.num_files += 1
                self._compare_files(files_a[file], files_b[file], f"{name}/{file}")

    def _compare_files(self, a: Path, b: Path, name: str) -> None:
        for key, value_a, value_b in differences(self._read(a), self._read(b)):
            if remark := remark_of(a.name, key, value_a, value_b):
                self.notes[remark] += 1
            else:
                self.differences.append(Difference(name, key, value_a, value_b))

    def _read(self, path: Path) -> Any:
        content = content_of(path)
        if path.name == "genotype.json" and content.get("format") == 2:
            self.notes["genotype.json: of format 2, compared after conversion"] += 1
        return comparable(content)


def remark_of(file: str, key: str, a: str, b: str) -> str:
    """Return what to say of a difference that is none: an option of one side, a result of B; else nothing."""
    _, is_option, option = key.rpartition("args.")
    if is_option and NOTHING in (a, b):
        return f"option {option}: {'A' if b == NOTHING else 'B'} alone has it"
    return f"{file}: {key}: B alone has it" if file == "results.json" and a == NOTHING else ""


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that are compared, by their names with TIME in the place of a run's moment."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name in NAMES or TENSORS.fullmatch(path.name):
            name = MOMENT.sub("-TIME", str(path.relative_to(folder)))
            numbered = (f"{name} ({number})" for number in itertools.count(2))
            found[next(key for key in itertools.chain([name], numbered) if key not in found)] = path
    return found


def content_of(path: Path) -> Any:
    """Return a file's content: JSON, a list of JSON lines, or the tensors of a checkpoint's model by name."""
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"args": content} if path.name == "args.json" else content
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("model", state)


def comparable(content: Any) -> Any:
    """Return JSON content without times and moments, and with genotypes in format 1."""
    if isinstance(content, dict):
        content = as_format_1(content)
        return {name: comparable(value) for name, value in content.items() if not TIMES.fullmatch(name)}
    if isinstance(content, list):
        return [comparable(value) for value in content]
    return MOMENT.sub("-TIME", content) if isinstance(content, str) else content


def as_format_1(content: dict) -> dict:
    """Return the only part of a genotype of format 2; anything else as it is."""
    parts = content.get("parts")
    if content.get("format") == 2 and isinstance(parts, dict) and len(parts) == 1:
        return next(iter(parts.values()))
    return content


def differences(a: Any, b: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the key of each value that differs, and both values in words."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in a | b:
            yield from differences(a.get(name, ...), b.get(name, ...), f"{key}.{name}".removeprefix("."))
    elif isinstance(a, list) and isinstance(b, list):
        for number, (item_a, item_b) in enumerate(itertools.zip_longest(a, b, fillvalue=...)):
            yield from differences(item_a, item_b, f"{key}[{number}]")
    elif isinstance(a, Tensor) and isinstance(b, Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape):
        yield from tensor_differences(a, b, key)
    elif (text_a := text_of(a)) != (text_b := text_of(b)):
        yield key, text_a[:SHOWN], text_b[:SHOWN]


def tensor_differences(a: Tensor, b: Tensor, key: str) -> Iterator[tuple[str, str, str]]:
    """Yield how many numbers of two tensors of a kind differ, with the first of them."""
    unequal = (a != b) & ~((a != a) & (b != b))
    if count := int(unequal.sum()):
        first = int(unequal.flatten().nonzero()[0])
        values = (text_of(tensor.flatten()[first].item()) for tensor in (a, b))
        yield f"{key}: {count} of {a.numel()} numbers, the first at {first}", *values


def text_of(value: Any) -> str:
    """Return a value as JSON has it, so that 1, 1.0 and true differ; of a tensor its kind and shape."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return NOTHING if value is ... else json.dumps(value)
