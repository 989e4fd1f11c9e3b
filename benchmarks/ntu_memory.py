"""Measures peak memory of a search at the published sizes of NTU RGB+D: batch 96, 8 frames of 256 x 256, ResNet-50.

    python -m benchmarks.ntu_memory [--per_subject 24] [--epochs 2]

Uses generated clips and encoders of random weights. One process computes and caches the taps, searches and derives.
Appends a row to results/ntu_memory.csv. The published search needed about 128 GB of GPU memory.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.rows import append_row
from datasets.generated.ntu import write_ntu
from models.classification.encoders import ENCODERS
from utils.args import Parser, command
from utils.checkpoint import save
from utils.option_types import positive
from utils.subprocesses import ROOT, named

BATCH, SIDE, CLASSES, PUBLISHED_GB = 96, 256, 60, 128


@command
def main(argv: list[str]) -> None:
    parser = Parser("Measure the memory of a search at published sizes.")
    text = "clips per subject; the search uses 12 of 28 subjects (24)"
    parser.add_argument("--per_subject", type=positive, default=24, help=text)
    parser.add_argument("--epochs", type=positive, default=2, help="epochs of the search (2)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        append_row("ntu_memory", measure(Path(folder), args.per_subject, args.epochs))


def measure(folder: Path, per_subject: int, epochs: int) -> dict[str, object]:
    """Run a search in a folder; returns peak memory and times."""
    write_ntu(folder / "data", per_subject, SIDE, 1)
    for modality, build in ENCODERS["ntu"].items():
        (folder / "checkpoints").mkdir(exist_ok=True)
        save(folder / f"checkpoints/{modality}_encoder.pth", build("resnet50", CLASSES, False).state_dict())
    argv = [sys.executable, str(ROOT / "main_darts_searchable_ntu.py"), "data", "--checkpointdir", "checkpoints"]
    argv += ["--batchsize", str(BATCH), "--epochs", str(epochs), "--cache_features", "disk", "--no_report"]
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = folder / named(done.stdout, "search_exp_dir")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    stored = sum(file.stat().st_size for file in (folder / "cache").rglob("features.bin"))
    clips = len(next((folder / "cache").rglob("index.txt")).read_text().splitlines())
    facts = {
        "batch": BATCH,
        "clips": clips,
        "pairs_per_epoch": rows[-1]["pairs"],
        "epochs": epochs,
        "peak_mib": round(max(r["memory_mb"] for r in rows)),
    }
    facts |= {"published_gb": PUBLISHED_GB, "kib_per_clip": round(stored / clips / 1024, 1)}
    facts |= {"pairs_per_s": round(rows[-1]["pairs_per_s"], 1), "seconds": round(time.perf_counter() - started, 1)}
    return facts | {"gpu": torch.cuda.is_available()}


if __name__ == "__main__":
    raise SystemExit(main())
