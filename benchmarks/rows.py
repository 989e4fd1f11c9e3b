"""Reads and appends rows of results/*.csv, with command, commit and machine."""

import csv
import fcntl
import sys
from pathlib import Path

import torch

from utils.run_folder import commit, processor

RESULTS = Path(__file__).resolve().parent.parent / "results"


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of results/NAME.csv; [] if there is no file."""
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(row: dict[str, str], columns: dict[str, object]) -> bool:
    """Return whether a row of a file has these values."""
    return all(row[name] == ("" if value is None else str(value)) for name, value in columns.items())


def shown(word: str) -> str:
    """Return a word of a command line without the places of this machine: a data folder as DIR, also in NAME:DIR."""
    if "=" in word and Path(word.partition("=")[2]).is_file():
        return f"{word.partition('=')[0]}={shown(word.partition('=')[2])}"
    path, (start, _, folder) = Path(word), word.rpartition(":")
    if start and Path(folder).is_dir():
        return f"{shown(start)}:DIR"
    if path.is_absolute() and path.is_relative_to(RESULTS.parent):
        return str(path.relative_to(RESULTS.parent))
    if path.is_absolute() and path.is_file():
        return path.name
    return "DIR" if path.is_dir() and "runs" not in path.parts else word


def append_row(name: str, row: dict, module: str = "", key: dict[str, object] | None = None) -> None:
    """Append a row to results/NAME.csv, with command (the data folder as DIR), commit, device and versions.

    Args:
        name: of the file.
        row: the measured columns.
        module: of the command, if it differs from `name`.
        key: columns in front that identify the row. Nothing is appended if the file has a row with the same key, which
            another process may have appended.

    Raises:
        ValueError: the file has other columns.
    """
    words = [shown(word) for word in sys.argv[1:]]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {
        "command": " ".join(["python", "-m", f"benchmarks.{module or name}", *words]),
        "commit": commit(),
        "device": gpu or f"{processor()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    row = (key or {}) | row | facts
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.csv", "a+", newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        file.seek(0)
        old = list(csv.DictReader(file))
        if old and list(old[0]) != list(row):
            raise ValueError(f"results/{name}.csv: expected columns {list(old[0])}, found {list(row)}")
        if key and any(same(other, key) for other in old):
            return
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if not old:
            writer.writeheader()
        writer.writerow(row)
