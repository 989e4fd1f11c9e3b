"""Means over seeds and paired differences of methods with 95 % intervals, and the tables of the docs made from them."""

from pathlib import Path

import numpy as np

from benchmarks.films.intervals import Scores, columns, difference, mean_scores, scores
from benchmarks.rows import append_row, read_rows, same
from utils.run_folder import read_json

SINGLE = ("image", "text")
LATE = ("sum", "concat")
FUSED = (*LATE, "random", "darts", "evolution")
NETWORKS, AVERAGE = (*SINGLE, *FUSED), "average"
LINEAR = ("shares", "logistic_plot", "logistic_both")
DIFFERENCES = "films_differences"
NOTHING = ""  # in place of the method that is subtracted: the row is of the method itself
WORDS = {
    "shares": "shares of the train list",
    "logistic_plot": "logistic regression, plot vectors",
    "logistic_both": "logistic regression, plot vectors and poster features",
    "image": "poster alone",
    "text": "plot alone",
    "average": "mean of both networks' probabilities",
    "sum": "last taps summed",
    "concat": "last taps concatenated",
    "random": "random genotypes",
    "darts": "searched, DARTS",
    "evolution": "searched, evolution",
}


def append_differences(key: dict[str, object], folder: Path, labels: np.ndarray) -> None:
    """Append the mean over seeds of every method, and of every fusion the differences to `compared`.

    Args:
        key: columns of the config.
        folder: of the probabilities.
        labels: genres of the test films, bool (N, K).
    """
    runs = {method: read_runs(folder, method, labels) for method in WORDS}
    means = {method: mean_scores(list(found.values())) for method, found in runs.items() if found}
    for method, score in means.items():
        _append(key, method, NOTHING, list(runs[method]), score)
        for other in compared(method, means, key):
            _append(key, method, other, list(runs[method]), difference(score, means[other]))


def read_runs(folder: Path, method: str, labels: np.ndarray) -> dict[int, Scores]:
    """Return the scores of a method by seed."""
    files = {int(path.stem.rpartition("-")[2]): path for path in folder.glob(f"{method}-*.json")}
    return {seed: scores(np.array(read_json(files[seed], kind=list)), labels) for seed in sorted(files)}


def compared(method: str, means: dict[str, Scores], key: dict[str, object]) -> list[str]:
    """Return what is subtracted from a fusion: the better modality on val, regressions, and simpler fusions."""
    if method not in (AVERAGE, *FUSED):
        return []
    simpler = {"random": LATE, "darts": (*LATE, "random"), "evolution": (*LATE, "random")}.get(method, ())
    return [name for name in (better_modality(key), "logistic_plot", "logistic_both", *simpler) if name in means]


def better_modality(key: dict[str, object]) -> str:
    """Return the modality with the higher mean F1 on val."""
    return max(SINGLE, key=lambda method: mean_val(key, method))


def mean_val(key: dict[str, object], method: str) -> float:
    rows = [row for row in read_rows("films") if same(row, key | {"method": method}) and row["F1_weighted_val"]]
    return float(np.mean([float(row["F1_weighted_val"]) for row in rows])) if rows else float("nan")


def _append(key: dict[str, object], method: str, minus: str, seeds: list[int], score: Scores) -> None:
    row_key = key | {"method": method, "minus": minus, "seeds": " ".join(map(str, seeds))}
    append_row(DIFFERENCES, columns(score), module="films", key=row_key)


def table(key: dict[str, object]) -> str:
    """Return the tables of the methods and of their differences in points of 100, for docs/classification.md."""
    rows = [row for row in read_rows(DIFFERENCES) if same(row, key)]
    most = max(len(row["seeds"].split()) for row in rows)
    rows = [row for row in rows if len(row["seeds"].split()) == most or row["method"] in LINEAR]
    lines = ["| method | weighted F1 | macro F1 | weighted F1 on `val` |", "|---|---|---|---|"]
    for row in (row for row in rows if not row["minus"]):
        val = mean_val(key, row["method"])
        shown = "-" if np.isnan(val) else f"{100 * val:.1f}"
        lines.append(f"| {WORDS[row['method']]} | {_points(row, 'weighted')} | {_points(row, 'macro')} | {shown} |")
    lines += ["", "| difference | minus | weighted F1 | macro F1 |", "|---|---|---|---|"]
    for row in (row for row in rows if row["minus"]):
        words = WORDS[row["method"]], WORDS[row["minus"]]
        numbers = (_points(row, kind, sign="+") for kind in ("weighted", "macro"))
        lines.append(f"| {' | '.join((*words, *numbers))} |")
    return "\n".join(lines)


def _points(row: dict[str, str], kind: str, sign: str = "") -> str:
    value, low, high = (f"{100 * float(row[f'F1_{kind}{end}']):{sign}.1f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
