"""Measures steps of a search of towers (FAD) as ratios to a training step of plain towers, and the memory of both.

    python -m benchmarks.tower_step [--backbone resnet50] [--C 256] [--head_channels 96] [--image_size 416x704]

Same backbone, same images of noise, in turn in one process; medians. "cached": on P3 to P7 from memory, with frozen
encoder and FPN; such a step is compared with a plain step with the backbone, and with a plain one on cached pyramids.
Peak memory is that of a process of its own. Prints JSON. Rows: results/tower_step.csv.
"""

import json
import statistics
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.rows import append_row
from benchmarks.search_step import STATISTICS, cached_samples, make_batch, seconds_of
from datasets.detection.dataset import join_features
from engine.compute import Compute, keep_freed_memory
from engine.epochs import peak_memory_mb
from engine.nonfinite import Guard
from engine.step import Session, optimisation_step
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions
from models.detection.heads.fcos import FCOSHead
from models.detection.streams import NUM_FPN_LEVELS, PyramidStreams
from models.detection.towers import Towers, searchable_towers
from models.search.parameters import arch_parameters, weight_parameters
from models.search.tower_cells.space import TowerSpace
from tasks.detection.fad import FAD
from utils.args import Parser, command
from utils.option_types import image_size, positive

CLASSES = 20  # of Pascal VOC, which the published search reads


@command
def main(argv: list[str]) -> None:
    parser = Parser("Measure steps of a search of towers.")
    add = parser.add_argument
    add("--backbone", default="resnet50", help="encoder (resnet50)")
    add("--C", type=positive, default=256, help="channels of FPN and towers (256)")
    add("--head_channels", type=positive, default=96, help="channels inside a cell (96)")
    add("--image_size", type=image_size, default=(416, 704), help="of the input, in pixels (416x704)")
    add("--batch", type=positive, default=2, help="images of a step (2)")
    add("--runs", type=positive, default=7, help="of each step; the median counts (7)")
    args = parser.parse_args(argv)
    peaks = {}  # before anything is made here: a process begins with the peak of the one that starts it
    for name, of in (("plain_mb", plain_steps), ("search_mb", search_steps)):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            peaks[name] = pool.submit(peak_of, of, args).result()
    keep_freed_memory()  # as the commands do
    steps = plain_steps(args) | search_steps(args)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.runs + 1):  # the first of each is a warm-up
        for name, step in steps.items():
            seconds[name].append(seconds_of(step))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    names = ("backbone", "C", "head_channels", "batch", "runs")
    row = {name: getattr(args, name) for name in names} | {"image_size": "x".join(map(str, args.image_size))}
    row["plain_s"] = round(medians["plain"], 3)
    row |= {name: round(medians[name] / medians["plain"], 3) for name in steps if name != "plain"}
    for name in ("weight_cached", "logit_cached"):
        row[f"{name}_to_plain_cached"] = round(medians[name] / medians["plain_cached"], 3)
    append_row("tower_step", row | peaks)
    print(json.dumps(row | peaks))


def peak_of(steps: Callable[[Namespace], dict[str, Callable[[], None]]], args: Namespace) -> int:
    """Return the peak memory, in MiB, of two rounds of the steps that read images."""
    keep_freed_memory()
    for step in [step for name, step in steps(args).items() if "cached" not in name] * 2:
        step()
    return round(peak_memory_mb())


def plain_steps(args: Namespace) -> dict[str, Callable[[], None]]:
    """Return a training step of plain towers, on images and on cached pyramids."""
    return make_steps(args, Towers(args.C), {"plain": weight_parameters})


def search_steps(args: Namespace) -> dict[str, Callable[[], None]]:
    """Return a weight step and a logit step of the supernet, on images and on cached pyramids."""
    height, width = args.image_size
    space = TowerSpace(channels=args.head_channels, map_size=(height // 8, width // 8))
    return make_steps(args, searchable_towers(space, args.C), {"weight": weight_parameters, "logit": arch_parameters})


def make_steps(
    args: Namespace, towers: nn.Module, sides: dict[str, Callable[[nn.Module], list[nn.Parameter]]]
) -> dict[str, Callable[[], None]]:
    """Return the steps of a detector with these towers, by name; of each side one on images and one on cached pyramids.

    Args:
        sides: what a step moves.
    """
    torch.manual_seed(0)
    streams = PyramidStreams(args.backbone, args.C, modalities=("rgb",))
    fusions, head = baseline_fusions("rgb", args.C, NUM_FPN_LEVELS), FCOSHead(args.C, CLASSES, NUM_FPN_LEVELS)
    compute = Compute(torch.device("cpu"), clip_grad=20.0)
    model = FusionDetector(streams, fusions, head, {"rgb": STATISTICS}, towers=towers)
    session = Session(compute.place(model), FAD, compute, Guard(compute.device))
    batch = make_batch(args.batch, args.image_size)
    samples = cached_samples(batch, model, compute, "taps")
    cached = {key: value for key, value in batch.items() if key != "images"}
    steps = {}
    for name, parameters in sides.items():
        alone = torch.optim.SGD(parameters(model), lr=1e-6)
        steps[f"{name}_cached"] = partial(on_cached, session, cached, samples, alone)
    streams.unfreeze()
    for name, parameters in sides.items():
        steps[name] = partial(optimisation_step, session, [batch], torch.optim.SGD(parameters(model), lr=1e-6))
    return steps


def on_cached(session: Session, batch: dict, samples: list[dict], optimizer: Optimizer) -> None:
    """Take a step on cached pyramids."""
    optimisation_step(session, [batch | {"features": join_features(samples)}], optimizer)


if __name__ == "__main__":
    raise SystemExit(main())
