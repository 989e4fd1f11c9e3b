"""Run folders: `runs/KIND-SAVE-TIME/`, never reused, never shared (specs: command line, run folders)."""

import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils import __version__
from utils.errors import UserError, printable
from utils.files import append_line, faults_named, replace_file
from utils.signals import Stop
from utils.untrusted import plain_file

RUNS = "runs"  # where run folders lie, below the folder that a command is run in
# Of --save, before the number of one of --seeds, or of a fold where one command runs all.
SEED_SUFFIX, FOLD_SUFFIX = "-seed", "-fold"
# Of a run, an object per line: each epoch's numbers; and of a search the relaxed weights of its logits.
METRICS, ALPHAS = "metrics.jsonl", "alphas.jsonl"
COMMAND = "command.json"  # which command, its options that were given and typed, and the defaults of all
FINISHED = "finished.json"  # the last lines of a run
# Options that cannot change what a run computes, or whose content is compared: a run may go on with others.
FREE = ("data", "config", "workers", "pin_mem", "checkpoint_every", "max_bad_files", "max_bad_steps", "wandb")
FREE += ("dry_run", "no_report", "resume", "checkpointdir", "cache_dir", "search_exp_dir", "genotype", "parallel")


class RunFolder:
    """One run's folder: plain files that are whole at any moment, a log that the terminal shows too.

    Args:
        path: of a folder that is there; `new` makes one.
        read_only: nothing is written or logged, as in all processes of a job but the first.

    Attributes:
        stop: says which signal asked the run to stop.
    """

    def __init__(self, path: Path, read_only: bool = False):
        self.path, self.is_writer, self.stop = path, not read_only, Stop(path)

    @classmethod
    def new(cls, kind: str, save: str, root: str = RUNS) -> "RunFolder":
        """Make a folder of its own; UserError where that cannot be."""
        if not save or any(c in save for c in "/\\") or save.startswith("."):
            raise UserError(f"--save {save!r}: expected a name without slashes")
        return cls(_make(Path(root), f"{kind}-{save}-{time.strftime('%Y%m%d-%H%M%S')}"))

    def log(self, line: str) -> None:
        """Print a line beside any progress bar and append it to log.txt; what cannot be shown is escaped."""
        if not self.is_writer:
            return
        line = printable(line)
        tqdm.write(line)
        with faults_named(self.path / "log.txt"), open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rows(self, name: str = METRICS) -> list[dict]:
        """Return the rows of metrics.jsonl, say; a last line that a full disk or a kill has cut is left out.

        Raises:
            UserError: another line is not an object.
        """
        path = self.path / name
        try:
            text = plain_file(path).read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            rows = [json.loads(line) for line in text.split("\n")[:-1]]
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: expected JSON lines, found: {error}") from None
        if not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{path}: expected JSON objects, found others")
        return rows

    def append_row(self, row: dict, name: str = METRICS) -> None:
        """Append one object to metrics.jsonl, say."""
        if self.is_writer:
            append_line(self.path / name, json.dumps(row))

    def keep_rows(self, keep: Callable[[dict], bool], name: str = METRICS) -> None:
        """Drop the rows that are not to be kept, and a line that was cut."""
        if not self.is_writer:
            return
        rows = "".join(json.dumps(row) + "\n" for row in self.rows(name) if keep(row))
        replace_file(self.path / name, lambda file: file.write(rows.encode()))

    def write_json(self, name: str, data) -> Path:
        if self.is_writer:
            write_json(self.path / name, data)
        return self.path / name

    def note_environment(self) -> dict[str, str]:
        """Append machine, versions, commit and command to env.txt; returns what is not as it was before, in words."""
        if not self.is_writer:
            return {}
        path, now = self.path / "env.txt", environment()
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        before = dict(line.partition(": ")[::2] for line in text.splitlines())
        with faults_named(path), open(path, "a", encoding="utf-8") as file:
            file.write("\n" * bool(text) + "".join(f"{name}: {value}\n" for name, value in now.items()))
        return {k: f"{before[k]}, now {now[k]}" for k in now if k != "command" and before.get(k, now[k]) != now[k]}


def newest_run(kind: str, save: str) -> Path | None:
    """Return the folder of the newest run of this kind and --save, if there is one."""
    name = re.compile(rf"{kind}-{re.escape(save)}-(\d{{8}}-\d{{6}})(?:-(\d+))?")
    found = {path: name.fullmatch(path.name) for path in Path(RUNS).glob(f"{kind}-*") if (path / COMMAND).exists()}
    ages = {path: (match[1], int(match[2] or 0)) for path, match in found.items() if match}
    return max(ages, key=ages.get, default=None)


def write_json(path: Path, data) -> None:
    """Write JSON atomically; UserError where there is no room."""
    text = json.dumps(data, indent=1) + "\n"
    replace_file(path, lambda file: file.write(text.encode()))


def read_json(path: Path, kind: type = dict, default: Any = None) -> Any:
    """Read one of our JSON files.

    Args:
        kind: of its content, dict or list.
        default: what is returned where there is no file; None: that is an error.

    Raises:
        UserError: missing, or not a JSON object or list.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if default is not None and isinstance(error, FileNotFoundError):
            return default
        raise UserError(f"{path}: expected a JSON file, found: {error}") from None
    if not isinstance(data, kind):
        expected = {dict: "object", list: "list"}[kind]
        raise UserError(f"{path}: expected a JSON {expected}, found {type(data).__name__}")
    return data


def commit() -> str:
    """Return the commit of the code, with "+" for uncommitted changes but of results/; "unknown" outside a checkout."""

    def git(*words: str) -> str:
        root = Path(__file__).parent.parent
        return subprocess.check_output(["git", *words], cwd=root, text=True, stderr=subprocess.PIPE).strip()

    try:
        dirty = "+" if git("status", "--porcelain", "--", ".", ":!results") else ""
        return git("rev-parse", "--short=12", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def environment() -> dict[str, str]:
    """Return machine, versions, commit and command."""
    import timm
    import torch
    import torchvision

    facts = {"command": " ".join(sys.argv), "version": __version__, "commit": commit()}
    facts |= {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    facts |= {"timm": timm.__version__, "platform": platform.platform(), "processor": processor()}
    gpus = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return facts | {"threads": str(torch.get_num_threads()), "gpus": gpus or "none"}


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _make(root: Path, name: str) -> Path:
    """Create a folder of its own, with a counter where the name is taken."""
    for number in range(1000):
        path = root / (name if number == 0 else f"{name}-{number}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            if root.is_dir():
                continue
            raise UserError(f"{root}: expected a folder for runs, found a file") from error
        except OSError as error:
            raise UserError(f"{path}: expected a run folder that can be written, found: {error}") from None
        return path
    raise UserError(f"{root / name}: expected a free name, found 1000 runs of it")
