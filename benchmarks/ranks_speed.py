"""An epoch of a search by one process and by two, each with one core: what the second one is worth.

    python -m benchmarks.ranks_speed DIR --config FILE [--checkpointdir DIR] [--cache off ram] [--batchsize 8]
        [--runs 3] [--epochs 3]

Runs the search itself, in turn by one process and by two, with features computed in each step and with cached ones. An
epoch's time is that of learning and of evaluation; the first epoch of a run, and the filling of the cache, do not
count. Medians. Rows: results/ranks_speed.csv.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import append_row
from utils.commands import ROOT, environment
from utils.options import positive
from utils.run_folder import RunFolder

COUNTS = (1, 2)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DIR")
    parser.add_argument("--config", required=True, metavar="FILE")
    parser.add_argument("--checkpointdir", default="checkpoints/flira", metavar="DIR")
    parser.add_argument("--cache", nargs="+", choices=("off", "ram"), default=["off", "ram"])
    parser.add_argument("--batchsize", type=positive, default=8, help="of both processes together (8)")
    parser.add_argument("--runs", type=positive, default=3)
    parser.add_argument("--epochs", type=positive, default=3)
    args = parser.parse_args(argv)
    for cache in args.cache:
        rows: dict[int, list[dict]] = {count: [] for count in COUNTS}
        for _ in range(args.runs):
            for count in COUNTS:
                rows[count] += epochs_of(args, count, cache)
        row = {"dataset": Path(args.data).name, "config": Path(args.config).stem, "batchsize": args.batchsize}
        row |= {"cache_features": cache, "runs": args.runs, "epochs": len(rows[1])}
        for count, own in rows.items():
            row[f"epoch_s_{count}"] = round(statistics.median(map(seconds_of, own)), 3)
            row[f"learning_s_{count}"] = round(statistics.median(one["train_seconds"] for one in own), 3)
        row["ratio"] = round(row["epoch_s_1"] / row["epoch_s_2"], 3)
        row["ratio_learning"] = round(row["learning_s_1"] / row["learning_s_2"], 3)
        append_row("ranks_speed", row)
        print(row, flush=True)


def epochs_of(args: argparse.Namespace, count: int, cache: str) -> list[dict]:
    """Return the rows of the epochs of a search, but the first, by so many processes with one core each."""
    script, data = ROOT / "main_darts_searchable_flira.py", Path(args.data).resolve()
    own = [data, "--config", Path(args.config).resolve(), "--checkpointdir", Path(args.checkpointdir).resolve()]
    own += [
        "--batchsize",
        args.batchsize,
        "--epochs",
        args.epochs + 1,
        "--Ti",
        args.epochs + 1,
        "--cache_features",
        cache,
        "--workers",
        0,
    ]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count] if count > 1 else []
    words = [sys.executable, *map(str, [*start, script, *own, "--no_report"])]
    cores = sorted(os.sched_getaffinity(0))[:count]
    with tempfile.TemporaryDirectory() as folder:
        env = environment({"OMP_NUM_THREADS": "1"})
        pin = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
        subprocess.run(words, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, preexec_fn=pin)
        (run,) = (Path(folder) / "runs").iterdir()
        return RunFolder(run).rows()[1:]


def seconds_of(row: dict) -> float:
    return row["train_seconds"] + row["val_seconds"]


if __name__ == "__main__":
    main()
