"""A side of the comparison: the code of a commit, or of the working tree, and the cases that were run with it."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.same_numbers.cases import CASES, CONFIG, DATA_CASE, recipe
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("runner.py")
WORKTREE = "WORKTREE"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Side(NamedTuple):
    """Code by the full name of its commit, None for the working tree, and the folder of its cases."""

    commit: str | None
    folder: Path

    def place(self, case: str) -> Path:
        """Return the folder that a case is run in; the data are the same for both sides."""
        return self.folder.parent / case if case == DATA_CASE else self.folder / case

    def is_done(self, case: str) -> bool:
        """Whether a case has ended well, by the recipe that it has now."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.place(case) / "done.json").read_text())["mark"] == mark(case)
        return False


def side_of(name: str, work: Path) -> Side:
    """Return the side of a commit, or of WORKTREE; its folder is named by its content.

    Raises:
        UserError: there is no such commit.
    """
    if name == WORKTREE:
        return Side(None, work / f"worktree-{hash_of_tree()}")
    done = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
    if done.returncode:
        raise UserError(f"{name}: expected a commit of {ROOT}, or {WORKTREE}, found none")
    return Side(done.stdout.strip(), work / done.stdout[:12])


def run_cases(side: Side, cases: list[str]) -> None:
    """Run those cases that are not done."""
    missing = [name for name in cases if not side.is_done(name)]
    if not missing:
        return
    with checked_out(side) as code:
        jobs = [job_of(side, name) for name in missing]
        variables = os.environ | ONE_THREAD | {"PYTHONPATH": str(code), "PYTHONUNBUFFERED": "1"}
        content = json.dumps({"code": str(code), "cases": jobs})
        # Which cases have failed, their folders tell.
        subprocess.run([sys.executable, RUNNER], input=content, text=True, env=variables, check=False)


def job_of(side: Side, name: str) -> dict:
    """Return what the runner needs to know of a case."""
    files = {"tiny.yaml": CONFIG} if name == DATA_CASE else {}
    job = {"name": name, "folder": str(side.place(name)), "commands": CASES[name].commands}
    return job | {"files": files, "mark": mark(name)}


def mark(case: str) -> str:
    return digest("\n".join(recipe(case)).encode())


@contextlib.contextmanager
def checked_out(side: Side) -> Iterator[Path]:
    """Give a clone at the side's commit, or a copy of the working tree, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code"
        if side.commit:
            git("clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(code))
            git("checkout", "--quiet", "--detach", side.commit, folder=code)
        else:
            for path in tree():
                (code / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, code / path)
        yield code


def tree() -> list[str]:
    """Return the files of the working tree that git does not ignore."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0")
    return sorted(name for name in set(names) if name and (ROOT / name).is_file())


def hash_of_tree() -> str:
    return digest(b"".join(name.encode() + b"\0" + (ROOT / name).read_bytes() for name in tree()))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def git(*words: str, folder: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=check)
