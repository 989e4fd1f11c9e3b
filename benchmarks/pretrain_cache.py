"""Measures an epoch of pretraining behind a frozen encoder: without a cache, and with one that a run has filled before.

    python -m benchmarks.pretrain_cache DIR [--config configs/laptop.yaml] [--backbone tf_efficientnet_lite0]

Runs the real command on the thermal pictures of DIR, mirrored at random. A first pretraining of one epoch leaves the
start weights, a second one fills a cache on disk. Then pretrainings without and with this cache run in turn, each in a
process of its own. Seconds are medians over all their epochs but the first of each, which starts the loaders; they
include the evaluation on `val`. Prints a JSON object. Rows: results/pretrain_cache.csv.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import yaml

from benchmarks.rows import append_row
from datasets.detection.names import dataset_name
from utils.args import Parser, command
from utils.option_types import positive
from utils.run_folder import newest_run
from utils.subprocesses import run

CONFIG, VARIED = "config.yaml", ("freeze_encoder", "cache_features")
MODES = ("off", "disk")  # of --cache_features
START = "start"  # checkpointdir of the first pretraining


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    common = ["main_pretrain_flira.py", args.folder, "--dataset", args.dataset, "--config", CONFIG]
    common += ["--backbone", args.backbone, "--modality", "thermal", "--scale_jitter", 1, 1, "--photometric", 0]
    frozen = [*common, "--init", START, "--freeze_encoder"]
    with tempfile.TemporaryDirectory() as scratch:
        write_config(args.config, Path(scratch) / CONFIG)
        os.chdir(scratch)
        run(*common, "--epochs", 1, "--no-imagenet", "--checkpointdir", START)
        run(*frozen, "--epochs", 1, "--cache_features", "disk")
        epochs: dict[str, list[dict]] = {mode: [] for mode in MODES}
        for _ in range(args.runs):
            for mode in MODES:
                run(*frozen, "--epochs", args.epochs, "--cache_features", mode)
                epochs[mode] += later_epochs()
        row = {"backbone": args.backbone, "config": Path(args.config).name, "data": Path(args.folder).name}
        row |= {"epochs": len(epochs["off"]), "cache_mib": round(cache_bytes() / 2**20, 1)} | compared(epochs)
    append_row("pretrain_cache", row)
    print(json.dumps(row))


def write_config(source: str, path: Path) -> None:
    """Write a config without what the runs vary: whether the encoder is frozen, and the cache."""
    content = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
    for name in VARIED:
        content.get("pretrain", {}).pop(name, None)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Time pretraining behind a frozen encoder, without and with a cache on disk.")
    parser.add_argument("folder", metavar="DIR", type=os.path.abspath, help="folder of the data set")
    parser.add_argument("--dataset", type=dataset_name, default="flir_aligned", help="layout of DIR (flir_aligned)")
    text = "settings (configs/laptop.yaml)"
    parser.add_argument("--config", type=os.path.abspath, default="configs/laptop.yaml", help=text)
    text = "encoder, by timm's name (tf_efficientnet_lite0)"
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", metavar="NAME", help=text)
    parser.add_argument("--epochs", type=positive, default=4, help="of each pretraining, 2 or more (4)")
    parser.add_argument("--runs", type=positive, default=3, help="pretrainings of each kind, in turn (3)")
    return parser.parse_args(argv)


def later_epochs() -> list[dict]:
    """Return what the newest pretraining logged of its epochs, but for the first one."""
    lines = (newest_run("pretrain", "EXP") / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


def compared(epochs: dict[str, list[dict]]) -> dict[str, float]:
    """Return the median seconds of an epoch by mode, of it those of training, and the ratio."""
    found: dict[str, float] = {}
    for mode, rows in epochs.items():
        found[f"{mode}_epoch_s"] = statistics.median(row["train_seconds"] + row["val_seconds"] for row in rows)
        found[f"{mode}_train_s"] = statistics.median(row["train_seconds"] for row in rows)
    ratio = found["disk_epoch_s"] / found["off_epoch_s"]
    return {name: round(seconds, 3) for name, seconds in found.items()} | {"ratio": round(ratio, 3)}


def cache_bytes() -> int:
    return sum(path.stat().st_size for path in Path("cache").glob("*/features*.bin"))


if __name__ == "__main__":
    raise SystemExit(main())
