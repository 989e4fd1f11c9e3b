"""Measures an epoch of a search by one process and by two, each with one core.

    python -m benchmarks.ranks_speed --config FILE [--cache off ram] [--train 120] [--val 16] [--width 192]
        [--image_size 160x192] [--batchsize 8] [--runs 3] [--epochs 3]

Runs the search command on rendered road scenes and random streams, in turn by one process and by two. The time of an
epoch is that of learning and evaluation, without the first epoch of a run and without filling a cache. Medians. Rows:
results/ranks_speed.csv.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.random_streams import make_scenes, search_options
from benchmarks.rows import append_row
from utils.option_types import image_size, positive
from utils.run_folder import RunFolder
from utils.subprocesses import ROOT, environment

COUNTS = (1, 2)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        scenes = make_scenes(Path(folder), args.train, args.val, args.width)
        options = search_options(Path(folder), scenes, str(Path(args.config).resolve()))
        for cache in args.cache:
            row = {"config": Path(args.config).stem, "image_size": "x".join(map(str, args.image_size))}
            row |= {"batchsize": args.batchsize, "train": args.train, "cache_features": cache, "runs": args.runs}
            row |= measured(args, [*options, "--cache_features", cache])
            append_row("ranks_speed", row)
            print(row, flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE")
    add("--cache", nargs="+", choices=("off", "ram"), default=["off", "ram"])
    for name, number in {"train": 120, "val": 16, "width": 192, "batchsize": 8, "runs": 3, "epochs": 3}.items():
        add(f"--{name}", type=positive, default=number)
    add("--image_size", type=image_size, default=(160, 192))
    return parser.parse_args(argv)


def measured(args: argparse.Namespace, options: list[str]) -> dict[str, float]:
    """Return the seconds of an epoch by one process and by two, and their ratio."""
    rows: dict[int, list[dict]] = {count: [] for count in COUNTS}
    for _ in range(args.runs):
        for count in COUNTS:
            rows[count] += epochs_of(args, count, options)
    facts = {"epochs": len(rows[1])}
    for count, epochs in rows.items():
        facts[f"epoch_s_{count}"] = round(statistics.median(map(seconds_of, epochs)), 3)
        facts[f"learning_s_{count}"] = round(statistics.median(row["train_seconds"] for row in epochs), 3)
    facts["ratio"] = round(facts["epoch_s_1"] / facts["epoch_s_2"], 3)
    return facts | {"ratio_learning": round(facts["learning_s_1"] / facts["learning_s_2"], 3)}


def epochs_of(args: argparse.Namespace, count: int, options: list[str]) -> list[dict]:
    """Run a search by a number of processes with one core each; returns its epochs without the first."""
    sizes = {"image_size": "x".join(map(str, args.image_size)), "batchsize": args.batchsize, "workers": 0}
    sizes |= {"epochs": args.epochs + 1, "Ti": args.epochs + 1}
    words = [*options, *(f"--{name}={value}" for name, value in sizes.items()), "--no_report"]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count] if count > 1 else []
    argv = [sys.executable, *map(str, [*start, ROOT / "main_darts_searchable_flira.py", *words])]
    cores = sorted(os.sched_getaffinity(0))[:count]
    with tempfile.TemporaryDirectory() as folder:
        env = environment({"OMP_NUM_THREADS": "1"})
        pin = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
        subprocess.run(argv, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, preexec_fn=pin)
        (run,) = (Path(folder) / "runs").iterdir()
        return RunFolder(run).rows()[1:]


def seconds_of(row: dict) -> float:
    return row["train_seconds"] + row["val_seconds"]


if __name__ == "__main__":
    main()
