"""File locks: folders that one process at a time writes to, and files by which processes share work.

The system releases a lock when all processes that hold it have ended, also if they were killed. A command that inherits
the file descriptor holds the lock as well. The lock of a folder ends with its process, not with the workers that it has
forked.
"""

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
_held: set[TextIO] = set()  # of folders


def opened(path: Path) -> TextIO:
    """Open a lock file; UserError if that fails."""
    with faults_named(path):
        return open(path, "a+", encoding="utf-8")


def lock_alone(file: TextIO) -> bool:
    """Take an exclusive lock without waiting; returns whether that worked. If not, a shared lock may be lost."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claim(path: Path) -> TextIO | None:
    """Return a lock file with an exclusive lock, which forked processes keep; None if another process holds it."""
    file = opened(path)
    if lock_alone(file):
        return file
    file.close()
    return None


def release(file: TextIO) -> None:
    """Release a lock, even if a process that a command left behind has the file open."""
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


@contextlib.contextmanager
def locked(folder: Path, log: Callable[[str], None] | None, others: str) -> Iterator[None]:
    """Hold the folder alone; while another process does, wait and say so.

    Args:
        log: None: do not wait.
        others: what the other process is: "another pretraining".

    Raises:
        UserError: another process holds it, and `log` is None; or its lock file cannot be written.
    """
    with opened(folder / LOCK) as file:
        _held.add(file)
        try:
            if not lock_alone(file):
                if log is None:
                    raise UserError(f"{folder}: expected a folder that nobody writes to, found {others} at work")
                log(f"waiting: {others} is writing to {folder}")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            _held.discard(file)


@contextlib.contextmanager
def locked_by_first(folder: Path, log: Callable[[str], None] | None, others: str) -> Iterator[None]:
    """Hold the folder as `locked` does; of several ranks the first holds it for all, and the others wait for it."""
    with contextlib.ExitStack() as held:
        ranks().broadcast_from_first(lambda: held.enter_context(locked(folder, log, others)))
        yield


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
            return not lock_alone(file)
    except OSError:  # no such folder yet, or none to write to, which the one who locks it will say
        return False
