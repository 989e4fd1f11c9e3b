"""What a demo found: one row per method, the gains of the search, and tables to print.

A row: AP, AP50, AP_val, LAMR_person, AP_scene_SCENE (0..1, None where there is nothing to find); params (all that run
for one pair); pair_passes (pairs x epochs of the training on frozen streams; equal for all that are trained); seconds
(training and test; of "searched" with its search, which search_seconds and search_pair_passes give apart; of box fusion
both detectors' training); run (the training run; of box fusion the test).
"""

import os
from pathlib import Path

import torch

from report.plots import read_metrics
from tools.demo.jobs import searched_in, tested_in, trained_in
from tools.demo.options import BOX_FUSIONS, HAND_MADE, SINGLE
from tools.jobs import Finished
from utils.run_folder import commit, processor, read_json

NUMBERS = ("AP", "AP50", "AP_val")
SCENE = "AP_scene_"


def summarize(methods: tuple[str, ...], done: Finished, scenes: str | None, seed: int) -> dict:
    """Return the summary of finished commands; its rows are in the order of `methods`."""
    rows = {method: row(method, done, "search" if method == "searched" else "") for method in methods}
    passes = {m: r["pair_passes"] for m, r in rows.items() if m not in BOX_FUSIONS}
    assert len(set(passes.values())) <= 1, f"methods were trained on unequal numbers of pairs: {passes}"
    facts = {"wall_s": None, "scenes": scenes, "seed": seed, "commit": commit(), "device": device()}
    return {"rows": rows, "gains": gains(rows)} | facts


def row(method: str, done: Finished, search: str = "") -> dict:
    """Return one method's row; `search` names the job of its search, if it has one."""
    results = read_json(tested_in(done, method) / "results.json")
    scores = {name: results.get(name) for name in NUMBERS} | {"LAMR_person": results.get("LAMR_person")}
    scores |= {name: value for name, value in results.items() if name.startswith(SCENE)}
    parts = SINGLE if method in BOX_FUSIONS else (method,)
    runs = [trained_in(done, part) for part in parts]
    used = [f"train_{part}" for part in parts] + [f"test_{method}"] + [search] * bool(search)
    costs = {
        "params": results.get("parameters"),
        "seconds": round(sum(done[name].seconds for name in used), 1),
        "pair_passes": sum(pair_passes(Path(run), ("train", "arch")) for run in runs),
        "run": runs[0] if len(runs) == 1 else str(tested_in(done, method)),
    }
    if search:
        costs["search_seconds"] = round(done[search].seconds, 1)
        costs["search_pair_passes"] = pair_passes(Path(searched_in(done, search)), ("train", "arch"))
    return scores | costs


def pair_passes(run: Path, parts: tuple[str, ...]) -> int:
    """Return how many pairs a run learned on, counted once per epoch: as its epochs say, else all of `parts`."""
    split = read_json(run / "split.json")["parts"]
    each = sum(len(split[part]) for part in parts)
    return sum(row.get("pairs", each) for row in read_metrics(run))


def gains(rows: dict[str, dict]) -> dict:
    """Return how far the searched network is above the best of each kind, for AP and AP50 apart; {} without one.

    The best of a kind is chosen by the very number that is compared, so it is the hardest to beat.
    """
    found = {}
    for name, kind in {"best_single": SINGLE, "best_hand_made": HAND_MADE, "random": ("random",)}.items():
        others = [m for m in kind if m in rows]
        if "searched" in rows and others:
            found[name] = {number: gain(rows, others, number) for number in ("AP", "AP50")}
    return found


def gain(rows: dict[str, dict], others: list[str], number: str) -> dict:
    """Return {"over": the best of the others, "gain": what searched has more; 0..1}."""
    best = max(others, key=lambda m: rows[m][number] or 0.0)
    return {"over": best, "gain": round((rows["searched"][number] or 0.0) - (rows[best][number] or 0.0), 6)}


def in_words(summary: dict) -> str:
    """Return the gains in sentences, in points of 100."""
    lines = []
    for kind, found in summary["gains"].items():
        parts = [f"{round(100 * g['gain'], 1) + 0.0:+.1f} {number} (over {g['over']})" for number, g in found.items()]
        lines.append(f"searched minus {kind.replace('_', ' ')}: {', '.join(parts)}")
    return "\n".join(lines)


def text_tables(summary: dict) -> str:
    """Return both tables as aligned text."""
    return "\n\n".join(aligned(table) for table in _tables(summary)) + "\n"


def markdown_tables(summary: dict) -> str:
    """Return both tables as Markdown."""
    return "\n".join(markdown(table) for table in _tables(summary))


def _tables(summary: dict) -> list[list[list[str]]]:
    """Return the table of all methods, and that of AP by scene (single sensors, best hand-made, searched)."""
    rows = summary["rows"]
    columns = {"AP": "AP", "AP50": "AP50", "AP_val": "AP_val", "LAMR_person": "LAMR people", "params": "parameters"}
    columns |= {"pair_passes": "pair passes", "seconds": "seconds"}
    tables = [[["method", *columns.values()], *([m, *(_cell(r[c]) for c in columns)] for m, r in rows.items())]]
    scenes = [name for name in next(iter(rows.values())) if name.startswith(SCENE)]
    if scenes:
        best = max((m for m in rows if m in HAND_MADE), key=lambda m: rows[m]["AP"] or 0.0, default=None)
        shown = [m for m in (*SINGLE, best, "searched") if m in rows]
        head = ["AP by scene", *(name.removeprefix(SCENE) for name in scenes)]
        tables.append([head, *([m, *(_cell(rows[m][name]) for name in scenes)] for m in shown)])
    return tables


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if value <= 1 else f"{value:.0f}"


def aligned(table: list[list[str]]) -> str:
    """Return a table, its head first, in columns of equal width: names left, numbers right."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [[line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))] for line in table]
    return "\n".join("  ".join(line) for line in lines)


def markdown(table: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(line)} |" for line in table]
    return "\n".join([head, "|" + "---|" * len(table[0]), *body]) + "\n"


def device() -> str:
    """Return what the commands ran on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, {os.cpu_count()} cores"
