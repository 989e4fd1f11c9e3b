"""Reading files that others wrote: plain files, plain YAML, plain values, and options taken from earlier runs.

Anyone may have written a file, so nothing in it is used before it is checked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import yaml

from utils.errors import UserError, short

if TYPE_CHECKING:
    from utils.args import Options

Check = tuple[Callable[[Any], bool], str]  # whether a value fits, and what is expected
MAX_VALUES = 1_000_000  # in one file; a run of 30 epochs keeps some thousands
MAX_DEPTH = 40  # of lists in lists
MAX_BITS = 128  # of an integer
SHOWN_KEYS = 8  # of a value's place, in messages
MAX_YAML = 128 * 1024  # bytes; the parser takes some seconds for that


def plain_file(path: str | Path) -> Path:
    """Return the path where a plain file is there, or nothing; links are followed.

    Raises:
        OSError: a folder, or a pipe or device, at which reading could wait for ever.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "a pipe or a device, no file", str(path))
    return path


def read_lines(path: str | Path, expected: str, encoding: str = "utf-8-sig") -> list[str]:
    """Read a text file; UserError where there is none, which says what was expected."""
    try:
        return plain_file(path).read_text(encoding=encoding).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected {expected}, found none to read ({error})") from error


def names_in(folder: Path, expected: str) -> list[str]:
    """Return the sorted names in a folder; UserError where there is none, which says what was expected."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: expected {expected}, found none to read ({error.strerror})") from error


def check_plain(value: Any, place: str, also: tuple[type, ...] = ()) -> None:
    """Refuse what is not None, bool, number, text, or list or dict of these, or would take for ever to look through.

    What is held in several places counts in each, as a pickle can make a few bytes into an endless tree.

    Args:
        place: names file and field.
        also: types that are allowed as well.
    """
    allowed = (NoneType, bool, int, float, str, *also)
    left, count = [(value, None, 0)], 1
    while left:
        value, keys, depth = left.pop()
        if isinstance(value, dict):
            inner = [(item, (keys, key), depth + 1) for key, item in value.items()]
            fits = all(isinstance(key, (str, int)) for key in value)
        elif isinstance(value, (list, tuple)):
            inner = [(item, (keys, number), depth + 1) for number, item in enumerate(value)]
            fits = True
        else:
            inner = []
            fits = isinstance(value, allowed) and not (type(value) is int and value.bit_length() > MAX_BITS)
        if not fits:
            kind = "texts, numbers, lists and mappings" + " and tensors" * bool(also)
            raise UserError(f"{place}{_field(keys)}: expected {kind}, found {short(value)}")
        count += len(inner)
        if count > MAX_VALUES or depth > MAX_DEPTH:
            most = f"{MAX_VALUES} values, {MAX_DEPTH} deep"
            raise UserError(f"{place}{_field(keys)}: expected at most {most}, found more")
        left += inner


def _field(keys: tuple | None) -> str:
    names = []
    while keys is not None:
        keys, key = keys
        names.append(key if isinstance(key, str) and len(key) <= 60 else short(key))
    return f": field {'.'.join(names[: -SHOWN_KEYS - 1 : -1])}{'...' * (len(names) > SHOWN_KEYS)}" if names else ""


def checked(value: Any, fits: Callable[[Any], bool], expected: str, place: str) -> Any:
    """Return a value that fits; UserError otherwise, which begins with the place, the names of file and field."""
    if not fits(value):
        raise UserError(f"{place}: expected {expected}, found {short(value)}")
    return value


def is_int(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53  # what JSON's readers agree on


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**53  # not true of infinity or NaN


def is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_list(value: Any, fits: Callable[[Any], bool], length: int | None = None) -> bool:
    """Return whether a value is a list of what fits, of some length."""
    return isinstance(value, list) and length in (None, len(value)) and all(map(fits, value))


def is_names(value: Any, kinds: type | tuple[type, ...] = str) -> bool:
    """Return whether a value is a list of texts, or of other kinds, at least one."""
    return is_list(value, lambda name: isinstance(name, kinds)) and bool(value)


class _Loader(yaml.SafeLoader):
    """The safe loader without what configs do not need: anchors, merged mappings, dates, tags, keys there twice.

    A word like 2024-05-01 is text. Anchors can make few bytes into endless values.
    """

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.composer.ComposerError(None, None, "anchors (&) and aliases (*) are not read", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is there twice", node.start_mark)
        return mapping


_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}
_Loader.yaml_constructors = {tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in _TAGS}
_Loader.yaml_constructors[None] = yaml.SafeLoader.construct_undefined
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# What the loader raises beside its own errors, on values that are not what their tag says.
_UNFIT = (LookupError, AttributeError, TypeError, OverflowError)
_UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError, *_UNFIT)


def read_yaml(path: str | Path, source: str) -> Any:
    """Read a YAML file of plain values.

    Args:
        source: names option and file in messages.

    Raises:
        UserError: the file cannot be read, is larger than `MAX_YAML`, or holds anchors, tags or a key twice.
    """
    try:
        size = plain_file(path).stat().st_size
        data = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) if size <= MAX_YAML else None
    except _UNREADABLE as error:
        words = "a value that is not what its tag says" if isinstance(error, _UNFIT) else " ".join(str(error).split())
        raise UserError(f"{source}: expected a readable YAML file, found: {words[:300]}") from None
    if size > MAX_YAML:
        raise UserError(f"{source}: expected at most {MAX_YAML} bytes of YAML, found {size}")
    check_plain(data, source)
    return data


MAX_COUNT, MAX_SIDE = 2**20, 2**14  # of what is counted, and pixels


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_COUNT


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, (list, tuple)) else ()
    return len(sides) == 2 and all(type(side) is int and 32 <= side <= MAX_SIDE for side in sides)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


COUNT, NAME, FILE = (_is_count, "a whole number from 1"), (_is_text, "a name"), (_is_text, "a file name")
COUNT_OR_NONE = (lambda value: value is None or _is_count(value), "a whole number from 1, or none")
TEXT_OR_NONE = (lambda value: value is None or _is_text(value), "a text or none")
FLAG, FOLDER = (lambda value: isinstance(value, bool), "true or false"), (_is_text, "a folder")
# Options that files of earlier versions do not have: these are of the defaults.
FRAME, FOLDS = ("encoder", "neck", "towers", "head"), ("folds", "fold")
ONNX = ("onnx_modality", "onnx_description")
TOWERS = ("tower_space", "head_channels", "head_cells")
NEWER = (*FRAME, "normalization", "canvas", *FOLDS, *ONNX, *TOWERS)
# Options that are taken from files of earlier runs: what they may be there, and in words.
INHERITED: dict[str, Check] = {
    "image_size": (_is_size, f"[height, width] from 32 to {MAX_SIDE} px"),
    "anchor_scale": (lambda value: type(value) in (int, float) and 0 < value < 2**20, "a number above 0"),
    "dataset": (_is_text, "a name or a file"),
    "split_seed": (lambda value: type(value) is int and value >= 0, "a whole number from 0"),
    "baseline": (lambda value: value is None or _is_text(value), "a name or none"),
    "checkpointdir": FOLDER,
    **dict.fromkeys(("backbone", "normalization", "canvas", "f1_type", "camera", "tower_space", *FRAME), NAME),
    **dict.fromkeys(("C", "num_input_nodes", "fusion_levels", "num_classes", "L"), COUNT),
    "head_cells": COUNT,
    **dict.fromkeys(("overfit", "widen", "head_channels", *FOLDS), COUNT_OR_NONE),
    **dict.fromkeys(ONNX, TEXT_OR_NONE),
    **dict.fromkeys(("small_dataset", "paper_protocol"), FLAG),
    **dict.fromkeys(("image_cp", "text_cp", "rgb_cp", "ske_cp", "depth_cp", "fullbb_path", "head_path"), FILE),
}
FORMAT = 1  # of the checkpoints in run folders
OBJECT = (is_object, "an object")
TEXT = (lambda value: isinstance(value, str), "text")
LIST = (lambda value: isinstance(value, list), "a list")
NAMES = (lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value), "a list of names")
ANYTHING = (lambda value: True, "a value")
# Of best.pt of a training, by dotted name: what a value must be, and in words. A task adds its own.
FIELDS: dict[str, Check] = {
    "kind": (lambda value: value == "found", "'found', as of a training"),
    "format": (lambda value: value == FORMAT, f"{FORMAT}"),
    **dict.fromkeys(("args", "model", "progress"), OBJECT),
    **dict.fromkeys(("split", "protocol", "checkpoint_split"), TEXT),
    "bad_files": LIST,
    "genotype": (lambda value: value is None or isinstance(value, dict), "an object or none"),
    **dict.fromkeys(("args.seed", "progress.best", "progress.best_epoch"), ANYTHING),
}


def options_from_run(
    options: Options, values: dict, names: Iterable[str], *, origin: str = "run", over_config: bool = False, source: str
) -> Options:
    """Return the options with those that are not given taken from an earlier run or checkpoint.

    Args:
        values: from a file, so each one is checked.
        names: of the options that are taken, all in `INHERITED`.
        origin: "run" or "checkpoint".
        over_config: a value of the config gives way, only a typed one stays.
        source: names the file in messages.

    Raises:
        UserError: the option cannot have a value that the file has.
    """
    kept = options.is_typed if over_config else options.is_given
    taken = {name: values[name] for name in names if name in values and not kept(name)}
    for name in taken:
        check_field(taken, name, INHERITED[name], source)
    return options.with_values(origin, **{n: tuple(v) if isinstance(v, list) else v for n, v in taken.items()})


def check_fields(state: dict, source: str, *, options: Iterable[str], fields: dict[str, Check]) -> None:
    """Refuse a checkpoint that is not of a training run.

    Args:
        options: names of the options that the network is rebuilt from.
        fields: what the task asks for beside `FIELDS`.

    Raises:
        UserError: names the first field that is missing or wrong.
    """
    for name, check in (FIELDS | {n: c for n, c in fields.items() if "." not in n}).items():
        check_field(state, name, check, source)
    for name in {name for name in (*FIELDS, *fields) if "." not in name} - {"model"}:
        check_plain(state[name], f"{source}: {name}")
    absent = {f"args.{name}" for name in NEWER if name not in state["args"]}
    for name, check in [*((f"args.{option}", INHERITED[option]) for option in options), *fields.items()]:
        if name not in absent:
            check_field(state, name, check, source)
    if state["args"].get("baseline") is None and not state["genotype"]:
        raise UserError(f"{source}: genotype: expected one, as args.baseline names none, found nothing")


def check_field(state: dict, name: str, check: Check, source: str) -> None:
    """Refuse a value that is missing or does not fit; `name` has dots where it lies in an object."""
    value, (fits, expected) = state, check
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            raise UserError(f"{source}: {name}: expected {expected}, found nothing")
        value = value[key]
    checked(value, fits, expected, f"{source}: {name}")
