"""Files: written whole (temporary file, fsync, replace), so that they stay where the power fails; and hashed."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError

BLOCK = 2**20  # bytes that are hashed at once


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def check_new(folder: Path) -> None:
    """Refuse a file, and a folder that holds something."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        found = "files in it" if folder.is_dir() else "a file"
        raise UserError(f"{folder}: expected a new or empty folder, found {found}")


def new_folder(folder: Path) -> None:
    """Make a folder; UserError where it holds something or cannot be made."""
    check_new(folder)
    with faults_named(folder):
        folder.mkdir(parents=True, exist_ok=True)


def replace_file(path: Path, write: Callable[[BinaryIO], None], check: Callable[[Path], None] | None = None) -> None:
    """Write a file beside, wait for the disk, check it, and put it in the place of an earlier one.

    Args:
        write: gets the open file.
        check: reads the written file back; raises where it is not as it should be.

    Raises:
        UserError: there is no room, or the folder cannot be written; an earlier file is still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    with faults_named(path):
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if check:
                check(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append a line and wait for the disk; UserError where there is no room."""
    with faults_named(path), open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    number = os.open(folder, os.O_RDONLY)
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
        kept = "; what was there before is unchanged" if path.exists() else ""
        raise UserError(f"{path}: expected room and the right to write, found: {error.strerror}{kept}") from error
