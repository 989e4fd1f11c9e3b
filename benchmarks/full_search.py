"""Measures seconds and memory of a whole search by the real command, without and with cached features.

    python -m benchmarks.full_search [--caches off ram] [--train 1400] [--val 140] [--width 192] [--epochs 3]

Uses rendered road scenes and random streams. Other options are passed to the search command. The published search:

    python -m benchmarks.full_search --config configs/flira.yaml --train 4128 --val 400 --width 640 --epochs 1

With fewer epochs than in the config, the row also has an extrapolation to all of them: the seconds of the last epoch
times the number of epochs, plus the seconds before the first. Prints a JSON object per cache. Rows:
results/full_search.csv.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.random_streams import make_scenes, search_options
from benchmarks.rows import append_row
from commands.options import parser_of
from datasets.road_scenes import SIZES
from tasks import TASKS
from utils.args import Parser, command, parse
from utils.option_types import positive
from utils.subprocesses import named, run


@command
def main(argv: list[str]) -> None:
    args, search_args = parse_known(argv)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        scenes = make_scenes(Path(scratch), args.train, args.val, args.width)
        options = [*search_options(Path(scratch), scenes, args.config), *search_args]
        for cache in args.caches:
            row = {"cache": cache} | measure([*options, "--cache_features", cache], args.epochs)
            sizes = {"config": Path(args.config).name} | {n: getattr(args, n) for n in ("train", "val", "width")}
            append_row("full_search", sizes | {"options": " ".join(search_args)} | row)
            print(json.dumps(sizes | row), flush=True)


def parse_known(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = Parser("Time a whole search, without and with cached features.")
    parser.add_argument(
        "--config", default="configs/demo.yaml", type=os.path.abspath, help="settings (configs/demo.yaml)"
    )
    for name in ("train", "val", "width"):
        parser.add_argument(f"--{name}", type=positive, default=SIZES[name], help=f"pairs or pixels ({SIZES[name]})")
    parser.add_argument("--caches", nargs="+", default=["off", "ram"], help="values of --cache_features (off ram)")
    parser.add_argument("--epochs", type=positive, help="fewer than the config has, for an extrapolation")
    return parser.parse_known_args(argv)


def measure(options: list[str], epochs: int | None) -> dict[str, float | int]:
    """Run a search; returns its seconds, those of an epoch and those before the first epoch, and peak memory."""
    whole = parse(parser_of(TASKS["flira"]), options, "search").epochs
    ran = min(epochs or whole, whole)
    started = time.perf_counter()
    folder = Path(named(run("main_darts_searchable_flira.py", *options, "--epochs", ran), "search_exp_dir"))
    wall = time.perf_counter() - started
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epoch = [row["train_seconds"] + row["val_seconds"] for row in rows]
    before = wall - sum(epoch)
    return {
        "epochs": ran,
        "wall_s": round(wall, 1),
        "epoch_s": round(epoch[-1], 2),
        "before_s": round(before, 1),  # start, data set, features, checkpoints
        "pairs_per_s": round(rows[-1]["pairs_per_s"], 1),
        "peak_mb": round(rows[-1]["memory_mb"]),
        "extrapolated_epochs": whole,
        "extrapolated_s": round(before + whole * epoch[-1], 1),
    }


if __name__ == "__main__":
    raise SystemExit(main())
