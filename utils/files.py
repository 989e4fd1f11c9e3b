"""Writing files that are whole at any moment, and stay where the power fails: temporary file, fsync, replace."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside, wait for the disk and put it in the place of an earlier one.

    Args:
        write: gets the open file.

    Raises:
        UserError: there is no room, or the folder cannot be written; an earlier file is still there.
    """
    begin_replacing(path, write, lambda written: None)()


def begin_replacing(path: Path, write: Callable[[BinaryIO], None], check: Callable[[Path], None]) -> Callable[[], None]:
    """Write a file beside; returns what waits for the disk, checks it, and puts it in the place of an earlier one.

    Args:
        write: as `replace_file`, which also says what both raise.
        check: reads the written file back; raises where it is not as it should be.
    """
    temporary = path.with_name(path.name + ".tmp")
    with faults_named(path), _removed_on_failure(temporary), open(temporary, "wb") as file:
        write(file)

    def end() -> None:
        with faults_named(path), _removed_on_failure(temporary):
            sync(temporary)
            check(temporary)
            os.replace(temporary, path)
            sync(path.parent)

    return end


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Append a line and wait for the disk; UserError where there is no room."""
    with faults_named(path), open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be written, into a UserError."""
    try:
        yield
    except OSError as error:
        kept = "; the file that was there is unchanged" if path.exists() else ""
        raise UserError(f"{path}: expected room and the right to write, found: {error.strerror}{kept}") from error
