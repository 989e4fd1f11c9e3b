"""How fast road scenes are rendered and written: pairs per second on one core, median of several runs.

    python -m benchmarks.scene_rate [--width 192]

Rows: results/scene_rate.csv.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.rows import append_row
from datasets.road_scenes import scenes_hash, write_road_scenes

REPEATS, PAIRS = 5, 140


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=192)
    args = parser.parse_args(argv)
    rates = []
    for repeat in range(REPEATS + 1):  # the first one fills caches and does not count
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            write_road_scenes(Path(folder), repeat, {"train": PAIRS - 2, "val": 1, "test": 1}, args.width)
            rates.append(PAIRS / (time.perf_counter() - started))
    rate = statistics.median(rates[1:])
    append_row("scene_rate", {"scenes": scenes_hash(), "width": args.width, "pairs_per_s": round(rate, 1)})
    print(f"{rate:.1f} pairs/s, rendered and written, on one core at {args.width} px")


if __name__ == "__main__":
    main()
