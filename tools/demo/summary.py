"""The summary of a demo: one row per method, the gains of the search, and tables to print.

A row has:
- the scores of the test, 0 to 1, None if there is nothing to score; for detection also AP_scene_SCENE
- params: parameters that run for one sample
- pair_passes: samples x epochs of the training on frozen streams; equal for all methods that are trained
- seconds: of training and test; of "searched" also of its search; of box fusion of both detectors' training
- search_seconds, search_pair_passes: of the search alone
- run: folder of the training; of box fusion that of the test
"""

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from report.metrics import read_metrics
from tools.demo.jobs import searched_in, tested_in, trained_in
from tools.demo.options import Options
from tools.demo.tasks import BOX_FUSIONS, FLIRA, SCENE, SINGLE, Demo
from tools.jobs import Finished
from utils.run_folder import commit, processor, read_json

COSTS = {"params": "parameters", "pair_passes": "pair passes", "seconds": "seconds"}


def summarize(options: Options, done: Finished, scenes: str | None) -> dict:
    """Return the summary of finished commands; its rows are in the order of the methods."""
    demo = options.demo
    rows = {m: row(m, done, "search" if m == "searched" else "", demo) for m in options.methods}
    passes = {m: r["pair_passes"] for m, r in rows.items() if m not in BOX_FUSIONS}
    assert len(set(passes.values())) <= 1, f"methods were trained on unequal numbers of pairs: {passes}"
    facts = {"wall_s": None, "scenes": scenes, "seed": options.seed, "commit": commit(), "device": device()}
    return {"rows": rows, "gains": gains(rows, demo)} | facts


def row(method: str, done: Finished, search: str = "", demo: Demo = FLIRA) -> dict:
    """Return one method's row; `search` names the job of its search, if it has one."""
    results = read_json(tested_in(done, method) / "results.json")
    scores = {name: results.get(name) for name in demo.scores}
    scores |= {name: value for name, value in results.items() if name.startswith(SCENE)}
    trained = SINGLE if method in BOX_FUSIONS else (method,)
    runs = [trained_in(done, name) for name in trained]
    used = [f"train_{name}" for name in trained] + [f"test_{method}"] + [search] * bool(search)
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
    """Return the number of samples of all epochs, as metrics.jsonl says; an epoch that does not say has all `parts`."""
    split = read_json(run / "split.json")["parts"]
    samples = sum(len(split[part]) for part in parts)
    return sum(row.get("pairs", samples) for row in read_metrics(run))


def gains(rows: dict[str, dict], demo: Demo = FLIRA) -> dict:
    """Return how far the searched network is above the best of each kind of method; {} without a searched one.

    Two scores are compared, separately. The best method of a kind is the best in the score that is compared.
    """
    found = {}
    for name, kind in {"best_single": demo.single, "best_hand_made": demo.hand_made, "random": ("random",)}.items():
        methods = [m for m in kind if m in rows]
        if "searched" in rows and methods:
            found[name] = {score: gain(rows, methods, score) for score in list(demo.scores)[:2]}
    return found


def best_of(rows: dict[str, dict], methods: Iterable[str], score: str = "AP") -> str | None:
    """Return the best of the methods that have a row, None if none has."""
    return max((m for m in methods if m in rows), key=lambda m: rows[m][score] or 0.0, default=None)


def gain(rows: dict[str, dict], others: list[str], score: str) -> dict:
    """Return {"over": the best of the other methods, "gain": difference of the searched network to it, -1 to 1}."""
    best = best_of(rows, others, score)
    return {"over": best, "gain": round((rows["searched"][score] or 0.0) - (rows[best][score] or 0.0), 6)}


def in_words(summary: dict) -> str:
    """Return the gains in sentences, in points of 100."""
    lines = []
    for kind, found in summary["gains"].items():
        parts = [f"{round(100 * g['gain'], 1) + 0.0:+.1f} {score} (over {g['over']})" for score, g in found.items()]
        lines.append(f"searched minus {kind.replace('_', ' ')}: {', '.join(parts)}")
    return "\n".join(lines)


def tables(summary: dict, demo: Demo) -> list[list[list[str]]]:
    """Return the table of all methods and, if the data names scenes, that of AP by scene of the main ones."""
    rows = summary["rows"]

    def line(method: str, columns: list[str]) -> list[str]:
        return [method, *(_cell(rows[method][name], demo.in_points and name in demo.scores) for name in columns)]

    columns = demo.scores | COSTS
    found = [[["method", *columns.values()], *(line(method, list(columns)) for method in rows)]]
    scenes = [name for name in next(iter(rows.values())) if name.startswith(SCENE)]
    if scenes:
        shown = [m for m in (*demo.single, best_of(rows, demo.hand_made), "searched") if m in rows]
        head = ["AP by scene", *(name.removeprefix(SCENE) for name in scenes)]
        found.append([head, *(line(method, scenes) for method in shown)])
    return found


def _cell(value: float | int | None, in_points: bool = False) -> str:
    if value is None:
        return "-"
    if in_points:
        return f"{100 * value:.1f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if value <= 1 else f"{value:.0f}"


def aligned(table: list[list[str]]) -> str:
    """Return a table, its head first, in columns of equal width: names left, numbers right."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [[line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))] for line in table]
    return "\n".join("  ".join(line) for line in lines)


def markdown(table: list[list[str]]) -> str:
    """Return a table, its head first, as Markdown."""
    head, *body = [f"| {' | '.join(line)} |" for line in table]
    return "\n".join([head, "|" + "---|" * len(table[0]), *body]) + "\n"


def device() -> str:
    """Return the GPU or processor that the commands ran on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, {os.cpu_count()} cores"
