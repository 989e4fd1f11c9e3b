"""Reads the metrics.jsonl of a run."""

from pathlib import Path
from types import NoneType

from engine.progress import metric_of
from report.formatting import as_shown, number
from utils.errors import UserError, short
from utils.run_folder import METRICS, RunFolder

ENTROPIES = {"entropy_edges": "edges", "entropy_inner_edges": "inner edges", "entropy_ops": "operations"}
DRAWN = ("train_loss", "arch_loss", *ENTROPIES)  # columns that are drawn, besides the task's metric


def read_metrics(folder: Path) -> list[dict]:
    """Return the epochs of a run: the objects of its metrics.jsonl, at least one.

    Raises:
        UserError: the file is missing, empty or not JSON lines, or a value that is shown is not a number.
    """
    file, rows = Path(folder) / METRICS, RunFolder(Path(folder)).rows()
    if not rows or not all("epoch" in row for row in rows):
        raise UserError(f"{file}: expected one JSON object with the field epoch per line, found another or none")
    for line, row in enumerate(rows, 1):
        drawn = (*DRAWN, f"{metric_of(row)}_val")
        for key, value in row.items():
            counted = key == "epoch" or key.startswith("count_")
            if (counted and number(value) is None) or (key in drawn and type(value) not in (int, float, NoneType)):
                raise UserError(f"{file}: line {line}: {key}: expected a number, found {short(value)}")
    return rows


def phases(name: str, rows: list[dict]) -> dict[str, list[dict]]:
    """Return the epochs of a run by label: the name and, of a run of several phases, the phase."""
    curves: dict[str, list[dict]] = {}
    for row in rows:
        curves.setdefault(as_shown(f"{name} {row['phase']}" if "phase" in row else name), []).append(row)
    return curves
