"""Measures how an epoch of the search grows with the number of pairs: seconds per pair, and memory besides the cache.

    python -m benchmarks.growth [--pairs 200 400 800 1600] [--caches off ram] [--runs 3]

Runs the real search command on rendered road scenes and random streams, one process per size and cache, in turn.
Medians are of the second epoch; the first is a warm-up. `memory_mb` is the peak of the process without the bytes of the
cache. Prints a JSON object per row, then the ratio of the time per pair, largest to smallest set, by cache. Rows:
results/growth.csv.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.random_streams import make_scenes, search_options
from benchmarks.rows import append_row
from utils.args import Parser, command
from utils.option_types import positive
from utils.subprocesses import named, run

VAL, WIDTH = 20, 192  # pairs, pixels


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    measured: dict[tuple[str, int], list[dict]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        options = {pairs: options_for(Path(scratch) / str(pairs), pairs, args.config) for pairs in args.pairs}
        for _ in range(args.runs):
            for pairs in args.pairs:
                for cache in args.caches:
                    measured.setdefault((cache, pairs), []).append(second_epoch(options[pairs], cache))
    rates = {}
    for (cache, pairs), epochs in measured.items():
        numbers = {name: statistics.median(epoch[name] for epoch in epochs) for name in epochs[0]}
        rates.setdefault(cache, []).append(numbers["ms_per_pair"])
        row = {"config": Path(args.config).name, "cache": cache, "pairs": pairs, "runs": args.runs}
        row |= {name: round(value, 2) for name, value in numbers.items()}
        append_row("growth", row)
        print(json.dumps(row))
    print(json.dumps({f"{cache}_end_to_start": round(values[-1] / values[0], 3) for cache, values in rates.items()}))


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Measure how an epoch of the search grows with the number of pairs.")
    parser.add_argument(
        "--pairs", type=positive, nargs="+", default=[200, 400, 800, 1600], help="numbers of pairs (200 400 800 1600)"
    )
    caches = ["off", "ram"]  # not disk: there the system decides what is in memory
    parser.add_argument("--caches", nargs="+", choices=caches, default=caches, help="values of --cache_features (all)")
    parser.add_argument(
        "--config", type=os.path.abspath, default="configs/demo.yaml", help="settings (configs/demo.yaml)"
    )
    parser.add_argument("--runs", type=positive, default=3, help="searches of each kind, in turn (3)")
    return parser.parse_args(argv)


def options_for(folder: Path, pairs: int, config: str) -> list[str]:
    folder.mkdir()
    return search_options(folder, make_scenes(folder, pairs, VAL, WIDTH), config)


def second_epoch(options: list[str], cache: str) -> dict[str, float]:
    """Run the search for two epochs; returns the time per pair of the second, and cache and process memory in MiB."""
    search = ("main_darts_searchable_flira.py", *options, "--epochs", 2, "--cache_features", cache)
    cache_mb = float(named(run(*search, "--dry_run"), "cache_taps_mib")) if cache != "off" else 0.0
    metrics = Path(named(run(*search), "search_exp_dir")) / "metrics.jsonl"
    row = json.loads(metrics.read_text(encoding="utf-8").splitlines()[1])
    memory_mb = row["memory_mb"] - cache_mb
    return {"ms_per_pair": 1000 / row["pairs_per_s"], "cache_mb": cache_mb, "memory_mb": memory_mb}


if __name__ == "__main__":
    raise SystemExit(main())
