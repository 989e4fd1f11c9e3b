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
from utils.files import begin_replacing


def save(path: Path, data: dict) -> None:
    """Write a checkpoint; an earlier file of that name stays until the new one is on the disk and read back.

    Args:
        data: tensors and plain values in dicts, lists and tuples.

    Raises:
        UserError: a number is not finite, or there is no room; the earlier file is unchanged.
    """
    begin_saving(path, data)()


def begin_saving(path: Path, data: dict, keep: Path | None = None) -> Callable[[], None]:
    """Write a checkpoint beside; returns what takes it in, which may wait long for the disk.

    Args:
        data: as `save`, which also says what both raise; free to change once this returns.
        keep: where the earlier file is then kept.
    """
    data = _copy(data, path, "")

    def check(written: Path) -> None:
        try:
            check_sums(written)
        except UNREADABLE as error:
            raise UserError(f"{path}: expected to read back what was written, found: {error}") from None
        if keep is not None and path.exists():
            os.replace(path, keep)

    return begin_replacing(path, lambda file: _write(data, file), check)


def _copy(value: object, path: Path, name: str) -> object:
    """Copy the containers, not the tensors, so that a file's bytes do not depend on what shares an object in memory."""
    if isinstance(value, dict):
        return {_copy(k, path, name): _copy(v, path, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copy(item, path, f"{name}[{i}]") for i, item in enumerate(value))
    if isinstance(value, Tensor) and value.is_floating_point() and not _is_finite(value):
        raise UserError(
            f"{path}: {name[1:]}: expected finite numbers, found others: not written; earlier files are as they were"
        )
    return sys.intern(value) if isinstance(value, str) else value


def _is_finite(tensor: Tensor) -> bool:
    # The sum of finite numbers may overflow, that of others is never finite; it takes a fifth of the time.
    return bool(tensor.detach().sum().isfinite()) or bool(tensor.detach().isfinite().all())


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
