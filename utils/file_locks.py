"""File locks by which processes on one file system share work: they end with those who hold them, killed ones too.

A command that is given the file's descriptor holds it as well, so that a lock outlasts its process where the command
does. Beside utils/lock.py: nothing here waits, and a forked process holds on.
"""

import fcntl
from pathlib import Path
from typing import TextIO

from utils.files import faults_named


def opened(path: Path) -> TextIO:
    """Open a lock file; UserError where that cannot be."""
    with faults_named(path):
        return open(path, "a+", encoding="utf-8")


def lock_alone(file: TextIO) -> bool:
    """Return whether we hold the file now, and nobody else; a part in it that we had may be lost if not."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claim(path: Path) -> TextIO | None:
    """Return a lock file that we alone hold; None while another process does."""
    file = opened(path)
    if lock_alone(file):
        return file
    file.close()
    return None


def release(file: TextIO) -> None:
    """Free a lock, also where a process that a command has left behind has the file open."""
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()
