"""The output folder of the demo or of a benchmark. An earlier folder is renamed or resumed, never mixed.

`stamp.json` records what the content depends on; only folders with this file are renamed. Processes that share a folder
hold a shared lock on OUT.lock. Their commands hold it as well, so it lasts even if a process is killed.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError
from utils.files import faults_named
from utils.lock import lock_alone, opened, release
from utils.run_folder import read_json, write_json

STAMP = "stamp.json"


def prepare(out: Path, stamp: dict, resume: bool) -> bool:
    """Make OUT; returns whether an earlier one is resumed.

    Args:
        out: the folder.
        stamp: what the results depend on: options, commit, renderer, content of the config. It has no `commit` if the
            rows of the results name their commits.
        resume: resume an OUT with the same stamp, unless the code has uncommitted changes.

    Raises:
        UserError: OUT has other files in it, or cannot be written.
    """
    check(out)
    code = stamp.get("commit", "")
    named = not code.endswith("+") and code != "unknown"
    resume = resume and named and (out / STAMP).exists() and read_json(out / STAMP) == stamp
    with faults_named(out):
        if not resume:
            _move_aside(out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / STAMP, stamp)
    return resume


@contextlib.contextmanager
def shared(out: Path, stamp: dict, scratch: Path | None = None) -> Iterator[int]:
    """Prepare OUT, or resume it, together with other processes of the same stamp.

    Args:
        out: the folder.
        stamp: as for `prepare`.
        scratch: folder that the last process removes at its end; None: nothing is removed.

    Yields:
        The file descriptor of the lock, which commands must inherit.

    Raises:
        UserError: other processes use OUT with another stamp; or as `prepare`.
    """
    with faults_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with opened(out.with_name(f"{out.name}.lock")) as file:
        if lock_alone(file):
            prepare(out, stamp, True)
        fcntl.flock(file, fcntl.LOCK_SH)  # waits for a process that prepares OUT or removes its scratch
        current = read_json(out / STAMP)
        if other := sorted(name for name in {*current, *stamp} if current.get(name) != stamp.get(name)):
            raise UserError(f"{out}: expected nobody at work in it with another {', '.join(other)}, found one who is")
        try:
            yield file.fileno()
        finally:
            if lock_alone(file) and scratch:
                shutil.rmtree(scratch, ignore_errors=True)
            release(file)


def check(out: Path) -> None:
    """Check that OUT may be renamed: not a file, not the working folder or one above it, without other files."""
    here = Path.cwd().resolve()
    if out.resolve() in (here, *here.parents):
        raise UserError(f"--out {out}: expected a folder of its own, found the one we work in or one above it")
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / STAMP).exists()):
        raise UserError(f"--out {out}: expected a new folder or one of an earlier run ({STAMP}), found other files")


def _move_aside(out: Path) -> None:
    """Rename an earlier OUT to OUT-TIME, by its time of modification."""
    if not out.exists():
        return
    kept = out.with_name(f"{out.name}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(out.stat().st_mtime))}")
    numbered = (kept if n == 0 else kept.with_name(f"{kept.name}-{n}") for n in range(1000))
    kept = next(path for path in numbered if not path.exists())
    out.rename(kept)
    print(f"{out}: the earlier one is now {kept}")
