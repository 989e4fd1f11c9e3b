"""Folders that one process at a time writes to. A lock ends with its process, not with the workers it has forked."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from utils.distributed import ranks
from utils.errors import UserError
from utils.files import faults_named

LOCK = ".lock"
_held: set[TextIO] = set()


@contextlib.contextmanager
def locked(folder: Path, log: Callable[[str], None] | None, others: str) -> Iterator[None]:
    """Hold the folder alone; while another process does, wait and say so.

    Args:
        log: None: do not wait.
        others: what the other process is: "another pretraining".

    Raises:
        UserError: another process holds it, and `log` is None; or its lock file cannot be written.
    """
    with faults_named(folder / LOCK):
        (folder / LOCK).touch()
    with open(folder / LOCK, "w", encoding="utf-8") as file:
        _held.add(file)
        try:
            _lock(file, folder, log, others)
            yield
        finally:
            _held.discard(file)


@contextlib.contextmanager
def locked_by_first(folder: Path, log: Callable[[str], None] | None, others: str) -> Iterator[None]:
    """Hold the folder as `locked` does; of several ranks the first holds it for all, and the others wait for it."""
    with contextlib.ExitStack() as held:
        ranks().broadcast_from_first(lambda: held.enter_context(locked(folder, log, others)))
        yield


def _lock(file: TextIO, folder: Path, log: Callable[[str], None] | None, others: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if log is None:
            raise UserError(f"{folder}: expected a folder that nobody writes to, found {others} at work") from None
        log(f"waiting: {others} is writing to {folder}")
        fcntl.flock(file, fcntl.LOCK_EX)


def _let_go() -> None:
    """Close the lock files that a forked process has got; its parent holds them on."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def is_locked(folder: Path) -> bool:
    """Return whether another process holds the folder now."""
    try:
        with open(folder / LOCK, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such folder yet, or none to write to, which the one who locks it will say
        return False
    return False
