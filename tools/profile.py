"""What a trained network costs: parameters, multiply-accumulates and time, part by part, beside others of its sizes.

    python -m tools.profile --eval_exp_dir RUN [--batchsize 1] [--rounds 30] [--device auto] [--out FILE.json]

The others are the detectors of one sensor and the hand-made fusions, or those with plain towers, with the same streams
and head; their weights are random, since what they cost does not depend on them. In every round each network, and each
part of RUN's, runs once, so that what else the machine does falls on all. Times are of this machine, medians and 95th
percentiles.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from tqdm import trange

from engine.step import move
from models.detection.detector import FusionDetector
from models.detection.streams import images_of
from models.search.costs import macs
from models.search.parameters import count_parameters
from tasks.detection.predictor import Predictor
from tools.demo.summary import markdown
from tools.export import noise
from utils.args import Options, Parser, command
from utils.option_types import output_file, positive
from utils.run_folder import write_json

WHOLE = "the network"
WARMUP = 3  # rounds that do not count
Work = Callable[[], object]


@command
def main(argv: list[str]) -> None:
    parser = Parser("Count parameters and multiply-accumulates of a trained network, and time it and its parts.")
    add = parser.add_argument
    add("--eval_exp_dir", required=True, metavar="RUN", help="training run")
    add("--batchsize", type=positive, default=1, help="pairs at once (1)")
    add("--rounds", type=positive, default=30, help="passes of each network that are timed (30)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--out", metavar="FILE.json", type=output_file(), help="the numbers as JSON, in ms per batch (none)")
    args = parser.parse_args(argv)
    rows = profile(Predictor(args.eval_exp_dir, args.device), args.batchsize, args.rounds)
    print(markdown(table(rows)))
    if args.out:
        write_json(args.out, {"batchsize": args.batchsize, "rounds": args.rounds, "rows": rows})
        print(f"profile: {args.out}")


def profile(predictor: Predictor, batchsize: int, rounds: int) -> list[dict[str, object]]:
    """Return a row per part and network: name, parameters, macs (per pair), median_ms and p95_ms (per batch)."""
    # What costs time does not depend on what the pictures show, except for sorting out boxes.
    size, scales = predictor.options.image_size, torch.ones(batchsize)
    batch = {"image_size": size, "scales": scales, "original_sizes": torch.tensor([size] * batchsize)}
    batch = move(batch | {"images": noise(predictor.fill, size, batchsize)}, predictor.compute.device)
    works = parts_of(predictor.model, batch)
    works[WHOLE] = predictor.model, lambda: predictor.task.predict(predictor.model, batch)
    for name in predictor.task.profiled_baselines:
        if {*images_of(predictor.task.streams_read(as_other(name, predictor)))} - {*predictor.fill}:
            continue  # it reads a sensor that the data does not have
        model = other(name, predictor)
        works[name] = model, lambda model=model: predictor.task.predict(model, batch)
    times = measure({name: work for name, (_, work) in works.items()}, rounds, predictor.compute.device)
    rows = []
    for name, (module, work) in works.items():
        median, p95 = np.percentile(times[name], (50, 95)).round(3).tolist()
        sizes = {"parameters": count_parameters(module) if module else 0, "macs": round(macs(work, ()) / batchsize)}
        rows.append({"name": name} | sizes | {"median_ms": median, "p95_ms": p95})
    return rows


def parts_of(model: FusionDetector, batch: dict) -> dict[str, tuple[nn.Module | None, Work]]:
    """Return the parts in the order in which they run, each on what the ones before have made."""
    streams, works = model.streams, {}
    for name in streams.modalities:
        parts = nn.ModuleList(getattr(streams, f"{name}_{part}") for part in ("backbone", "fpn"))
        works[f"{name} stream"] = parts, lambda name=name: run_stream(model, batch, name)
    with torch.no_grad():
        levels = model.cell_inputs(batch["images"])
        fused = model.fuse(levels)
        output = model.head_output(fused)
        towers = (fused,) if model.towers is None else model.towers(fused)
    if len(streams.modalities) > 1:
        works["fusion"] = model.fusions, lambda: model.fuse(levels)
    if model.towers is not None:
        works["towers"] = model.towers, lambda: model.towers(fused)
    works["head"] = model.head, lambda: model.head(*towers)
    works["boxes from scores"] = None, lambda: model.head.detect(output, batch)
    return works


def run_stream(model: FusionDetector, batch: dict, name: str) -> None:
    maps = model.streams.encode(name, model.normalize(batch["images"], name))
    model.streams.refine(name, maps, batch["image_size"])


def other(name: str, predictor: Predictor) -> FusionDetector:
    """Return a hand-made detector of the sizes of the trained one, with random weights."""
    options, task = as_other(name, predictor), predictor.task
    return predictor.compute.place(
        task.assemble(options, task.new_streams(options), None, predictor.normalization)
    ).eval()


def as_other(name: str, predictor: Predictor) -> Options:
    """Return the options of the hand-made detector of a name."""
    return predictor.options.with_values("default", baseline=name, widen=None)


@torch.no_grad()
def measure(works: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return milliseconds of each pass."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in trange(WARMUP + rounds, desc="rounds", leave=False, disable=None):
        for name, work in works.items():
            started = now(device)
            work()
            if number >= WARMUP:
                times[name].append(1000 * (now(device) - started))
    return times


def now(device: torch.device) -> float:
    """Return seconds, all work on the device being done."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return time.perf_counter()


def table(rows: list[dict[str, object]]) -> list[list[str]]:
    """Return the rows as text, the trained network's time being the unit of the last column."""
    whole = next(row["median_ms"] for row in rows if row["name"] == WHOLE)
    lines = [["part or network", "parameters", "MACs per pair, M", "median, ms", "95th percentile, ms", "share"]]
    for row in rows:
        costs = f"{row['parameters']:,}", f"{row['macs'] / 1e6:.1f}"
        times = f"{row['median_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{row['median_ms'] / whole:.2f}"
        lines.append([row["name"], *costs, *times])
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
