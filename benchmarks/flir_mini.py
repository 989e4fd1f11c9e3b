"""Pretrains, searches, trains and tests on a small real data set by the published command lines; one row per method.

    python -m benchmarks.flir_mini DIR [--config configs/laptop.yaml] [--seeds 2 3]

Existing checkpoints in checkpoints/flira are used, and a row of the same config, method and seed is not measured again.
Rows: results/flir_mini.csv.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.rows import append_row, read_rows
from utils.subprocesses import named, run

METHODS = ("thermal", "rgb", "sum", "concat_conv", "searched")
COLUMNS = ("AP", "AP50", "AP75", "AP_person", "AP_bike", "AP_car", "AP_val", "epoch", "parameters_fusion", "pairs")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--config", default="configs/laptop.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2])
    args = parser.parse_args(argv)
    common = [args.data, "--config", args.config]
    if not Path("checkpoints/flira/Head_Net_Pretrained_Best.pth.tar").exists():
        run("main_pretrain_flira.py", *common, "--modality", "both")
    for seed in args.seeds:
        for method in METHODS:
            done = read_rows("flir_mini")
            if not any(r["method"] == method and int(r["seed"]) == seed and r["config"] == args.config for r in done):
                measure(common, args.config, method, seed)


def measure(common: list[str], config: str, method: str, seed: int) -> None:
    """Train and test a method, after a search for "searched", and append the row."""
    started, seeded = time.perf_counter(), ["--seed", str(seed)]
    if method == "searched":
        search = named(run("main_darts_searchable_flira.py", *common, *seeded), "search_exp_dir")
        source = [f"--search_exp_dir={search}"]
    else:
        source = ["--baseline", method]
    trained = named(run("main_darts_found_flira.py", *common, *source, *seeded), "eval_exp_dir")
    test = [*source[:1], f"--eval_exp_dir={trained}"] if method == "searched" else [f"--eval_exp_dir={trained}"]
    results = json.loads(Path(named(run("main_darts_found_flira.py", *common, *test), "results")).read_text())
    facts = {"dataset": Path(common[0]).name, "config": config, "method": method, "seed": seed}
    numbers = {k: round(v, 4) if isinstance(v := results[k], float) else v for k in COLUMNS}
    seconds = round(time.perf_counter() - started)
    append_row("flir_mini", facts | numbers | {"split": results["split"], "seconds": seconds, "run": trained})


if __name__ == "__main__":
    main()
