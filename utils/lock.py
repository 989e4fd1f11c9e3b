"""Folders that one process at a time writes to."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path, log: Callable[[str], None], others: str) -> Iterator[None]:
    """Hold the folder alone; waits, and says so, while another process does. The lock ends with its process.

    Args:
        others: what the other process is, for the log: "another pretraining".
    """
    with open(folder / LOCK, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"waiting: {others} is writing to {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
