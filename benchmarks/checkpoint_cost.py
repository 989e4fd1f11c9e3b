"""Measures how long a checkpoint interrupts a pretraining or a search at published sizes.

    python -m benchmarks.checkpoint_cost --repeats 7

The networks have the published sizes, with the state of their optimisers. The checkpointer of a run saves them into a
run folder on this disk. Appends a row per phase to results/checkpoint_cost.csv: median and largest time, size, seconds
of writing in the background, and the share of a minute that training is interrupted.
"""

import json
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.rows import append_row
from benchmarks.search_step import BACKBONE, CHANNELS, CLASSES, LEVELS, REPEATS, STATISTICS, make_model
from datasets.loader import BadFiles
from engine.checkpointer import Checkpointer
from engine.compute import Compute
from engine.nonfinite import Guard
from engine.step import Session
from models.detection.backbones import create_encoder, encoder_channels
from models.detection.detector import SingleDetector
from models.detection.heads.efficientdet import DetectionHead
from models.detection.necks.bifpn import BiFPN
from models.detection.streams import MODALITIES
from models.search.parameters import arch_parameters, weight_parameters
from tasks.detection.flira import FLIRA as detection
from utils.args import Parser, command
from utils.option_types import positive
from utils.run_folder import RunFolder

MINUTE = 60.0


def make_single(compute: Compute) -> nn.Module:
    """Return the detector of a pretraining; all of its parameters learn."""
    encoder = create_encoder(BACKBONE)
    fpn = BiFPN(encoder_channels(encoder), CHANNELS, REPEATS, LEVELS)
    statistics = dict.fromkeys(MODALITIES, STATISTICS)
    return compute.place(SingleDetector("thermal", encoder, fpn, DetectionHead(CHANNELS, CLASSES), statistics))


def make_checkpointer(phase: str, compute: Compute, folder: Path) -> Checkpointer:
    """Return the checkpointer of a phase whose optimisers have taken a step."""
    model = make_model(compute) if phase == "search" else make_single(compute)
    groups = [weight_parameters(model), arch_parameters(model)]
    optimizers = {str(i): torch.optim.Adam(group, fused=True) for i, group in enumerate(groups) if group}
    for group in groups:
        for parameter in group:
            parameter.grad = torch.full_like(parameter, 1e-3)
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    session = Session(model, detection, compute, Guard(compute.device))
    run = RunFolder.new(phase, "cost", str(folder))
    data = SimpleNamespace(digest="", bad_files=BadFiles(None))
    checkpointer = Checkpointer(run, session, {"kind": phase}, data, "1m")
    checkpointer.stateful |= optimizers
    return checkpointer


def make_parser() -> Parser:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=positive, default=7, help="checkpoints of each phase (7)")
    return parser


@command
def main(argv: list[str]) -> None:
    args = make_parser().parse_args(argv)
    compute = Compute(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for phase in ("pretrain", "search"):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            checkpointer, seconds, disk = make_checkpointer(phase, compute, Path(folder)), [], []
            for _ in range(args.repeats):
                started = time.perf_counter()
                checkpointer.save()
                seconds.append(time.perf_counter() - started)
                checkpointer.wait()
                disk.append(time.perf_counter() - started - seconds[-1])
            size = checkpointer.file("last").stat().st_size
        row = {"phase": phase, "mib": round(size / 2**20, 1), "seconds": round(median(seconds), 3)}
        row |= {"most_seconds": round(max(seconds), 3), "repeats": args.repeats}
        row["disk_seconds"] = round(median(disk), 3)
        row["percent_of_a_minute"] = round(100 * median(seconds) / MINUTE, 2)
        append_row("checkpoint_cost", row)
        print(json.dumps(row))


if __name__ == "__main__":
    raise SystemExit(main())
