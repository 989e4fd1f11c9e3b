"""The folder that the demo or a benchmark works in: an earlier one is moved aside, or gone on with, never mixed.

`stamp.json` says what the content depends on. Only a folder that holds one is ever renamed. Processes that share one
hold OUT.lock together; a command that they started holds it, too, even if they were killed.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError
from utils.file_locks import lock_alone, opened, release
from utils.files import faults_named
from utils.run_folder import read_json, write_json

STAMP = "stamp.json"


def prepare(out: Path, stamp: dict, resume: bool, needed: tuple[str, ...] = ()) -> bool:
    """Make OUT; returns whether it is gone on with.

    Args:
        stamp: what the results depend on: options, commit, renderer, content of the config. One without `commit` is
            for work whose rows name theirs.
        resume: go on with an OUT of the same stamp, unless its code cannot be named (uncommitted changes).
        needed: files in OUT without which it is not gone on with.
    Raises:
        UserError: OUT is no folder of ours, or cannot be written.
    """
    check(out)
    code = stamp.get("commit", "")
    named = not code.endswith("+") and code != "unknown"
    resume = resume and named and _same(out, stamp) and all((out / name).exists() for name in needed)
    try:
        if not resume:
            _move_aside(out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / STAMP, stamp)
    except OSError as error:
        raise UserError(f"--out {out}: expected a folder that can be written, found: {error}") from None
    return resume


@contextlib.contextmanager
def shared(out: Path, stamp: dict, scratch: Path) -> Iterator[int]:
    """Work in OUT, prepared to be gone on with, beside other processes of the same stamp.

    Args:
        scratch: folder that the last one to leave removes.
    Returns:
        The file descriptor of the lock, for commands to hold.
    Raises:
        UserError: others are at work in OUT with another stamp; or as `prepare`.
    """
    with faults_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with opened(out.with_name(f"{out.name}.lock")) as file:
        if lock_alone(file):
            prepare(out, stamp, True)
        fcntl.flock(file, fcntl.LOCK_SH)  # behind one that prepares it or removes its scratch
        _check_same(out, stamp)
        try:
            yield file.fileno()
        finally:
            if lock_alone(file):
                shutil.rmtree(scratch, ignore_errors=True)
            release(file)


def _check_same(out: Path, stamp: dict) -> None:
    there = read_json(out / STAMP)
    if other := sorted(name for name in {*there, *stamp} if there.get(name) != stamp.get(name)):
        raise UserError(f"{out}: expected nobody at work in it with another {', '.join(other)}, found one who is")


def check(out: Path) -> None:
    """Refuse a place that is not ours to rename: a file, a folder above us, one with other things in it."""
    here = Path.cwd().resolve()
    if out.resolve() in (here, *here.parents):
        raise UserError(f"--out {out}: expected a folder of its own, found the one we work in or one above it")
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / STAMP).exists()):
        raise UserError(f"--out {out}: expected a new folder or one of an earlier run ({STAMP}), found other files")


def _same(out: Path, stamp: dict) -> bool:
    return (out / STAMP).exists() and read_json(out / STAMP) == stamp


def _move_aside(out: Path) -> None:
    """Rename an earlier OUT to OUT-TIME, its own time, so that nothing is lost."""
    if not out.exists():
        return
    kept = out.with_name(f"{out.name}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(out.stat().st_mtime))}")
    numbered = (kept if n == 0 else kept.with_name(f"{kept.name}-{n}") for n in range(1000))
    kept = next(path for path in numbered if not path.exists())
    out.rename(kept)
    print(f"{out}: the earlier one is now {kept}")
