"""Checkpoints: one dict of state dicts and plain values, loadable with `weights_only=True`, written atomically.

A file is looked at before it is believed: its check sums, which torch does not compare, and what it holds.
"""

import os
import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import torch
from torch import Tensor, nn

from utils.errors import UserError, printable, short
from utils.files import replace_file
from utils.untrusted import check_plain, plain_file

State = dict[str, Tensor]
# What torch.load raises on files that are no checkpoints, depending on their first bytes.
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, struct.error)
UNREADABLE += (pickle.UnpicklingError, zipfile.BadZipFile, AssertionError, ArithmeticError, MemoryError, BufferError)
ZIP = b"PK\x03\x04"  # how a file of torch.save begins, but for the form before torch 1.6
MAX_SHARED = 2  # times the file's size that its tensors may have, as two may share numbers


def load(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    try:
        check_sums(plain_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those on pickles, which are refused
            data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint file") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: expected a checkpoint of tensors and plain values, found: {_reason(error)}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a dict, found {type(data).__name__}")
    check_plain(data, str(path), also=(Tensor,))
    _check_sizes(data, path)
    return data


def load_safetensors(path: str | Path) -> tuple[State, dict[str, str]]:
    """Read a safetensors file onto the CPU; returns its tensors by name, and its metadata.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with safetensors.safe_open(plain_file(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of weights") from None
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: expected a whole safetensors file, found: {error}") from None


def _reason(error: Exception) -> str:
    """Say in a line why a file is not read; torch's own words for what it refuses to run tell how to run it."""
    text = str(error).strip()
    if text.startswith("Weights only load failed"):
        name = re.search(r"GLOBAL (\S+)", text)
        return f"{name[1][:100]}, which is not run" if name else "a damaged pickle, or one that holds more than that"
    return printable(text.partition("\n")[0])[:300] or type(error).__name__


def check_sums(path: Path) -> None:
    """Read a whole file; raises one of `UNREADABLE` where a record of it is damaged, compressed or there twice."""
    with open(path, "rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return  # the form before torch 1.6 has no check sums
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if len({record.filename for record in records}) < len(records):
            raise zipfile.BadZipFile("a record that is there twice")
        for record in records:
            # torch stores as it is; what is compressed may be as large as anyone likes.
            if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
                raise zipfile.BadZipFile(f"record {short(record.filename)}, which is compressed")
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise zipfile.BadZipFile("records that overlap")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"record {short(damaged)}, whose check sum is wrong: the file is damaged")


def _check_sizes(data: dict, path: Path) -> None:
    """Refuse tensors that are not plain numbers in memory, or are larger than the file: sizes are taken from them."""
    total = 0
    for _, tensor in _tensors(data, ""):
        if odd := _oddity(tensor):
            raise UserError(f"{path}: expected plain tensors of numbers, found {odd}")
        total += tensor.nbytes
    if total > MAX_SHARED * path.stat().st_size:
        raise UserError(f"{path}: expected tensors of at most the file's {path.stat().st_size} bytes, found {total}")


def _tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in dicts, lists and tuples, named by their places."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{name}: {key}" if name.endswith(".pt") else f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _tensors(item, f"{name}[{place}]")


def _oddity(tensor: Tensor) -> str:
    """Say what keeps a tensor from being plain numbers in the memory of the CPU; "" where nothing does."""
    if tensor.is_quantized:
        return "a quantized tensor"
    if tensor.layout is not torch.strided:
        return f"a tensor of layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.device.type != "cpu":
        return f"a tensor on the device {tensor.device.type}"
    if tensor.is_complex():
        return "a tensor of complex numbers"
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        return f"a tensor {tuple(tensor.shape)} of fewer numbers than that"
    return ""


def load_state(module: nn.Module, state: State, source: str) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        UserError: a tensor is missing, too many, of another shape or kind of numbers, or has numbers that are not
            finite; names the first one.
    """
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise UserError(f"{source}: {name}: expected a tensor {tuple(tensor.shape)}, found nothing")
        found = tuple(state[name].shape) if isinstance(state[name], Tensor) else type(state[name]).__name__
        if found != tuple(tensor.shape):
            raise UserError(f"{source}: {name}: expected shape {tuple(tensor.shape)}, found {found}")
        _check_numbers(state[name], tensor, f"{source}: {name}")
    extra = [name for name in state if name not in wanted]
    if extra:
        found = f"{len(extra)} more, the first {str(extra[0])[:60]}"
        raise UserError(f"{source}: expected {len(wanted)} tensors, found {found}")
    module.load_state_dict(state, strict=True)


def _check_numbers(found: Tensor, own: Tensor, place: str) -> None:
    """Refuse a tensor that is not of finite numbers of the kind of `own`, as the network would have them."""
    if odd := _oddity(found):
        raise UserError(f"{place}: expected a plain tensor of numbers, found {odd}")
    if _kind(found) != _kind(own):
        raise UserError(f"{place}: expected {_kind(own)}, found {_kind(found)}")
    if own.is_floating_point() and not found.to(own.dtype).isfinite().all():
        raise UserError(f"{place}: expected finite numbers, found others")


def _kind(tensor: Tensor) -> str:
    if tensor.dtype is torch.bool:
        return "truth values"
    return "numbers with a fraction" if tensor.is_floating_point() else "whole numbers"


def holds(path: Path, state: State) -> bool:
    """Return whether a file has exactly these tensors; a damaged one has not."""
    try:
        found = load(path) if path.exists() else {}
    except UserError:
        return False
    same = found.keys() == state.keys() and all(isinstance(found[name], Tensor) for name in state)
    return same and all(torch.equal(found[name], state[name]) for name in state)


def keep_backup(path: Path) -> None:
    """Keep an earlier file as NAME.bak, since a file of that name is about to be written."""
    if path.exists():
        replace_file(path.with_name(path.name + ".bak"), lambda file: file.write(path.read_bytes()))


def save(path: Path, data: dict, keep: Path | None = None) -> None:
    """Write a checkpoint; an earlier file of that name stays until the new one is on the disk and read back.

    Args:
        data: tensors and plain values in dicts, lists and tuples.
        keep: where the earlier file is then kept.

    Raises:
        UserError: a number is not finite, or there is no room; the earlier file is unchanged.
    """
    for name, tensor in _tensors(data, str(path)):
        if tensor.is_floating_point() and not _is_finite(tensor):
            what = "expected finite numbers, found others: not written; earlier files are as they were"
            raise UserError(f"{name}: {what}")

    def check(written: Path) -> None:
        try:
            check_sums(written)
        except UNREADABLE as error:
            raise UserError(f"{path}: expected to read back what was written, found: {error}") from None
        if keep is not None and path.exists():
            os.replace(path, keep)

    # Copied, so that a file's bytes do not depend on what shares an object in memory.
    copied = map_leaves(data, lambda leaf: sys.intern(leaf) if isinstance(leaf, str) else leaf)
    replace_file(path, lambda file: _write(copied, file), check)


def snapshot(data: dict) -> dict:
    """Copy all that a checkpoint holds to the CPU, so that it can be written while training goes on."""
    return map_leaves(data, lambda leaf: leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf)


def _is_finite(tensor: Tensor) -> bool:
    # The sum of finite numbers may overflow, that of others is never finite; it takes a fifth of the time.
    return bool(tensor.detach().sum().isfinite()) or bool(tensor.detach().isfinite().all())


def map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return copies of dicts, lists and tuples, in which everything else, also each key, is changed."""
    if isinstance(value, dict):
        return {map_leaves(k, change): map_leaves(v, change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map_leaves(item, change) for item in value)
    return change(value)


class _Output:
    """A file for torch.save, which hides why a write failed behind an error of its own."""

    def __init__(self, file: BinaryIO):
        self.file, self.error = file, None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(data: object, file: BinaryIO) -> None:
    output = _Output(file)
    try:
        torch.save(data, output)
    except RuntimeError as error:
        raise output.error or error from None
