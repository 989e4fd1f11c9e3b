"""Rows of results/*.csv: what was measured, with command, commit and machine."""

import csv
import sys
from pathlib import Path

import torch

from utils.run_folder import commit, processor

RESULTS = Path(__file__).resolve().parent.parent / "results"


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of results/NAME.csv; none where there is no file yet."""
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_row(name: str, row: dict, module: str = "") -> None:
    """Append a row to results/NAME.csv, with command (the data folder as DIR), commit, device and versions added.

    Args:
        module: of the command, where it is not called as the file.

    Raises:
        ValueError: the file has other columns.
    """
    words = ["DIR" if Path(word).is_dir() and "runs" not in Path(word).parts else word for word in sys.argv[1:]]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    row = row | {
        "command": " ".join(["python", "-m", f"benchmarks.{module or name}", *words]),
        "commit": commit(),
        "device": gpu or f"{processor()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    old = read_rows(name)
    if old and list(old[0]) != list(row):
        raise ValueError(f"results/{name}.csv: expected columns {list(old[0])}, found {list(row)}")
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.csv", "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if not old:
            writer.writeheader()
        writer.writerow(row)
