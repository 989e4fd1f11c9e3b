"""Run folders: `runs/KIND-SAVE-TIME/`, never reused, never shared (specs: command line, run folders)."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from utils.errors import UserError

RUNS = "runs"  # where run folders lie, below the folder that a command is run in


class RunFolder:
    """One run's folder: plain files that are whole at any moment, a log that the terminal shows too."""

    def __init__(self, kind: str, save: str, root: str = RUNS):
        if not save or any(c in save for c in "/\\") or save.startswith("."):
            raise UserError(f"--save {save!r}: expected a name without slashes")
        self.path = _make(Path(root), f"{kind}-{save}-{time.strftime('%Y%m%d-%H%M%S')}")

    def log(self, line: str) -> None:
        """Print a line beside any progress bar and append it to log.txt."""
        tqdm.write(line)
        with open(self.path / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")

    def append_metrics(self, row: dict) -> None:
        """Append one flat object to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def write_json(self, name: str, data) -> Path:
        write_json(self.path / name, data)
        return self.path / name

    def describe(self, args: dict) -> None:
        """Write args.json and env.txt."""
        self.write_json("args.json", args)
        (self.path / "env.txt").write_text(environment(), encoding="utf-8")


def write_json(path: Path, data) -> None:
    """Write JSON atomically."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict:
    """Read one of our JSON files.

    Raises:
        UserError: missing, or not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON file, found: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def commit() -> str:
    """Return the commit of the code, with "+" for uncommitted changes but of results/; "unknown" outside a checkout."""
    git, options = (
        ["git", "-C", str(Path(__file__).parent.parent)],
        {"capture_output": True, "text": True, "check": True},
    )
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], **options)
        dirty = subprocess.run([*git, "status", "--porcelain", "--", ".", ":!results"], **options)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def environment() -> str:
    """Return machine, versions, commit and command as text."""
    import timm
    import torchvision

    lines = {
        "command": " ".join(sys.argv),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "platform": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpus": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none",
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


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
