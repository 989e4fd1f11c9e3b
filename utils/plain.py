"""Reading what others wrote: files that are files, YAML without surprises, and values that are plain all through."""

import errno
from pathlib import Path
from types import NoneType
from typing import Any

import yaml
from torch import Tensor

from utils.errors import UserError, short

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


def check_plain(value: Any, place: str, tensors: bool = False) -> None:
    """Refuse what is not None, bool, number, text, or list or dict of these, or would take for ever to look through.

    What is held in several places counts in each, as a pickle can make a few bytes into an endless tree.

    Args:
        place: names file and field.
        tensors: tensors are allowed as well.
    """
    allowed = (NoneType, bool, int, float, str, *((Tensor,) if tensors else ()))
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
            kind = "texts, numbers, lists and mappings" + " and tensors" * tensors
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


_PLAIN = ("null", "bool", "int", "float")
_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in (*_PLAIN, "str", "seq", "map"))
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
        if size > MAX_YAML:
            raise UserError(f"{source}: expected at most {MAX_YAML} bytes of YAML, found {size}")
        data = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except UserError:
        raise
    except _UNREADABLE as error:
        words = "a value that is not what its tag says" if isinstance(error, _UNFIT) else str(error)
        words = " ".join(words.split())[:300]
        raise UserError(f"{source}: expected a readable YAML file, found: {words}") from None
    check_plain(data, source)
    return data
