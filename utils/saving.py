"""Saving checkpoints: no number that is not finite, no earlier file lost, the same bytes for the same content.

Reading them: checkpoint.py.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from utils.checkpoint import UNREADABLE, check_sums
from utils.errors import UserError
from utils.files import replace_file


def save(path: Path, data: dict, keep: Path | None = None) -> None:
    """Write a checkpoint; an earlier file of that name stays until the new one is on the disk and read back.

    Args:
        data: tensors and plain values in dicts, lists and tuples.
        keep: where the earlier file is then kept.

    Raises:
        UserError: a number is not finite, or there is no room; the earlier file is unchanged.
    """
    check_finite(data, str(path))

    def check(written: Path) -> None:
        try:
            check_sums(written)
        except UNREADABLE as error:
            raise UserError(f"{path}: expected to read back what was written, found: {error}") from None
        if keep is not None and path.exists():
            os.replace(path, keep)

    replace_file(path, lambda file: _write(_copied(data, lambda tensor: tensor), file), check)


def snapshot(data: dict) -> dict:
    """Copy all that a checkpoint holds to the CPU, so that it can be written while training goes on."""
    return _copied(data, lambda tensor: tensor.detach().to("cpu", copy=True))


def check_finite(data: object, name: str) -> None:
    """Refuse tensors with numbers that are not finite.

    Raises:
        UserError: names the first one.
    """
    if isinstance(data, dict):
        for key, value in data.items():
            check_finite(value, f"{name}: {key}" if name.endswith(".pt") else f"{name}.{key}")
    elif isinstance(data, (list, tuple)):
        for place, value in enumerate(data):
            check_finite(value, f"{name}[{place}]")
    elif isinstance(data, Tensor) and data.is_floating_point() and not _is_finite(data):
        raise UserError(f"{name}: expected finite numbers, found others: not written; earlier files are as they were")


def _is_finite(tensor: Tensor) -> bool:
    # The sum of finite numbers may overflow, that of others is never finite; it takes a fifth of the time.
    return bool(tensor.detach().sum().isfinite()) or bool(tensor.detach().isfinite().all())


def _copied(value: object, copy: Callable[[Tensor], Tensor]) -> object:
    """Copy containers, so that a file's bytes do not depend on what shares an object in memory."""
    if isinstance(value, dict):
        return {_copied(k, copy): _copied(v, copy) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item, copy) for item in value)
    if isinstance(value, Tensor):
        return copy(value)
    return sys.intern(value) if isinstance(value, str) else value


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
