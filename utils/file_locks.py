"""File locks by which processes on one file system share work.

The system releases a lock when all processes that hold it have ended, also if they were killed. A command that inherits
the file descriptor holds the lock as well. Unlike utils/lock.py, nothing here waits, and forked processes keep the
lock.
"""

import fcntl
from pathlib import Path
from typing import TextIO

from utils.files import faults_named


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
    """Return a lock file with an exclusive lock; None if another process holds it."""
    file = opened(path)
    if lock_alone(file):
        return file
    file.close()
    return None


def release(file: TextIO) -> None:
    """Release a lock, even if a process that a command left behind has the file open."""
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()
