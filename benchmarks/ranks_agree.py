"""Measures how far the results of several processes that share each batch are from those of one: gloo, on a CPU.

    python -m benchmarks.ranks_agree DIR [--seed 0] [--ranks 2 3] [--batch 6] [--steps 5]

DIR is a data set in a layout of FLIR-Aligned. Each number of processes takes the same optimiser steps of a search from
the same seed: SGD in float64, first and second order, weights and logits; Adam in float32. Then each evaluates the same
trained network on test and on val. Rows: results/ranks_agree.csv.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.rows import append_row
from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from engine.bilevel import Bilevel
from engine.compute import Compute
from engine.nonfinite import Guard
from engine.step import Session, optimisation_step, validator
from models.detection.detector import FusionDetector
from models.detection.fusions import searchable_fusions
from models.detection.heads.efficientdet import DetectionHead
from models.detection.streams import Streams
from models.search.fusion_cells.cell_space import CellSpace
from models.search.parameters import arch_parameters, weight_parameters
from tasks.detection.flira import FLIRA as detection
from utils.checkpoint import save
from utils.distributed import joined, leave, ranks
from utils.option_types import positive, seed
from utils.seed import seed_everything
from utils.subprocesses import environment

BACKBONE, CHANNELS, REPEATS, LEVELS, IMAGE_SIZE = "test_efficientnet", 16, 2, 3, (64, 80)
LEARNING_RATE = 1e-2
ADAM_FACTOR = 2  # steps of Adam per step of SGD
State = dict[str, torch.Tensor]


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.out:
        with joined():
            work(args)
            leave()
        return
    with tempfile.TemporaryDirectory() as folder:
        single = run(args, 1, Path(folder))
        for count in args.ranks:
            several = run(args, count, Path(folder))
            row = {"dataset": Path(args.data).name, "seed": args.seed, "batch": args.batch, "ranks": count}
            row |= compare(single, several)
            append_row("ranks_agree", row)
            print(row, flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", metavar="DIR")
    add("--seed", type=seed, default=0)
    add("--ranks", type=positive, nargs="+", default=[2, 3])
    add("--batch", type=positive, default=6, help="pairs of a step over all processes (6)")
    add("--steps", type=positive, default=5, help="least number of steps of each optimiser (5)")
    add("--out", metavar="FILE", help="internal: act as one of the processes and write the result")
    add("--weights", metavar="FILE", help="internal: weights to evaluate; trained and written if missing")
    return parser.parse_args(argv)


def run(args: argparse.Namespace, count: int, folder: Path) -> dict:
    """Return the result of a number of processes."""
    out, weights = folder / f"{count}.pt", folder / "weights.pt"
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    start = [sys.executable, *(several if count > 1 else ())]
    sizes = ["--seed", args.seed, "--batch", args.batch, "--steps", args.steps, "--out", out, "--weights", weights]
    words = ["-m", "benchmarks.ranks_agree", args.data, *map(str, sizes)]
    subprocess.run([*start, *words], check=True, env=environment({"OMP_NUM_THREADS": "1"}))
    return torch.load(out, weights_only=True)


def work(args: argparse.Namespace) -> None:
    """Take the steps as one of the ranks; the first rank writes the result."""
    parts = open_data(
        args.data,
        "flir_aligned",
        ImageOptions(IMAGE_SIZE, hflip=0.5),
        LoaderOptions(args.batch, args.seed, max_bad_files=None),
    )
    result = {"first": searched(args, parts, False), "second": searched(args, parts, True)}
    result["losses"] = adam_losses(args, parts)
    result["answers"] = {part: evaluated(args, parts, part) for part in ("test", "val")}
    if ranks().first:
        save(Path(args.out), result)


def build(args: argparse.Namespace, parts: DataModule, dtype: torch.dtype) -> Session:
    """Return a session with the supernet of the seed."""
    seed_everything(args.seed)
    fusions = searchable_fusions(CellSpace(2 * REPEATS, CHANNELS), LEVELS, 0.0)
    head = DetectionHead(CHANNELS, len(parts.data.classes), num_levels=LEVELS, anchor_scale=2.0)
    streams = Streams(BACKBONE, CHANNELS, REPEATS, LEVELS)
    model = FusionDetector(streams, fusions, head, parts.data.normalization)
    compute = Compute(torch.device("cpu"), clip_grad=10.0, ranks=ranks())
    return Session(compute.place(model.to(dtype)), detection, compute, Guard(compute.device, ranks=ranks()))


def searched(args: argparse.Namespace, parts: DataModule, second_order: bool) -> State:
    """Return weights and logits after steps of SGD in float64."""
    session = build(args, parts, torch.float64)
    weights, logits = (torch.optim.SGD(of(session.model), LEARNING_RATE) for of in (weight_parameters, arch_parameters))
    train, arch = (parts.loader(part, train=True) for part in ("train", "arch"))
    epochs = -(-args.steps // len(train))
    schedule = LambdaLR(weights, lambda step: 1.0)
    bilevel = Bilevel(session, weights, schedule, train, logits, arch, "step", second_order, epochs)
    for epoch in range(epochs):
        bilevel.start_epoch(epoch)
        bilevel.train_epoch()
        session.progress.update(epoch, 0.0)
    return learned(session.model)


def learned(model: FusionDetector) -> State:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def adam_losses(args: argparse.Namespace, parts: DataModule) -> list[float]:
    """Return the loss of each step of Adam in float32; the single process saves the weights for the evaluation."""
    session = build(args, parts, torch.float32)
    optimizer: Optimizer = torch.optim.Adam(weight_parameters(session.model), 3e-3, fused=True)
    loader, losses, epoch = parts.loader("train", train=True), [], 0
    while len(losses) < ADAM_FACTOR * args.steps:
        loader.set_epoch(epoch)
        for batch in loader:
            optimisation_step(session, [batch], optimizer)
            losses.append(float(session.progress.meters("train").sums["loss"]) - sum(losses))
        epoch += 1
    if not Path(args.weights).exists() and ranks().count == 1:
        save(Path(args.weights), session.model.state_dict())
    return losses


def evaluated(args: argparse.Namespace, parts: DataModule, part: str) -> dict:
    """Return metrics and detections of the trained network on a part."""
    session = build(args, parts, torch.float32)
    session.model.load_state_dict(torch.load(args.weights, weights_only=True))
    validate, answers = validator(session, parts, part)
    return {"metrics": validate(), "detections": answers}


def compare(single: dict, several: dict) -> dict[str, object]:
    """Return the largest difference of a parameter and of a loss, and whether the detections are equal."""
    row = {}
    for order in ("first", "second"):
        for side, is_logits in (("weights", False), ("logits", True)):
            names = [name for name in single[order] if ("alpha_" in name) == is_logits]
            apart = max(float((single[order][n] - several[order][n]).abs().max()) for n in names)
            row[f"{order}_order_{side}"] = f"{apart:.1e}"
    pairs = zip(single["losses"], several["losses"], strict=True)
    row["adam_losses"] = f"{max(abs(a - b) / a for a, b in pairs):.1e}"
    row["answers_equal"] = single["answers"] == several["answers"]
    return row | {f"AP_{part}": single["answers"][part]["metrics"]["AP"] for part in ("test", "val")}


if __name__ == "__main__":
    main()
