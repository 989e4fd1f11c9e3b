"""Measures a weight step and a logit step of the published search, in units that are comparable across machines.

    python -m benchmarks.search_step [--image_size 256] [--batch 2] [--runs 9] [--compile]

The unit is one forward pass of the two backbones and BiFPNs of effdet (efficientdetv2_dt, contiguous, no gradients) on
the same batch: the cost of the frozen streams in the library that the public code uses. A cached step reads its taps
from a feature cache in memory. All are timed in turn in one process; medians. Prints JSON. Rows:
results/search_step.csv.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import effdet
import torch
from torch.optim import Optimizer

from benchmarks.rows import append_row
from datasets.detection.dataset import join_features
from datasets.feature_store import MemoryStore
from engine.compute import Compute, keep_freed_memory
from engine.epochs import peak_memory_mb
from engine.feature_fill import encode
from engine.nonfinite import Guard
from engine.step import Session, optimisation_step
from models.detection.detector import FusionDetector
from models.detection.fusions import searchable_fusions
from models.detection.heads.efficientdet import DetectionHead
from models.detection.streams import MODALITIES, Streams
from models.search.fusion_cells.cell_space import CellSpace
from models.search.parameters import arch_parameters, weight_parameters
from tasks.detection.flira import FLIRA as detection

BACKBONE, CHANNELS, REPEATS, LEVELS, CLASSES = "efficientnetv2_rw_t", 128, 5, 5, 90  # as published
STATISTICS = ((0.5,) * 3, (0.25,) * 3)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="use torch.compile; takes minutes")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    keep_freed_memory()  # as the commands do
    batch = make_batch(args.batch, (args.image_size, args.image_size))
    compute = Compute(torch.device("cpu"), clip_grad=10.0, compile=args.compile)
    timed = {"unit": make_unit(batch, args.image_size), **make_steps(batch, compute)}
    seconds = {name: [] for name in timed}
    for _ in range(args.runs + 1):  # the first of each is a warm-up and compiles
        for name, run in timed.items():
            seconds[name].append(seconds_of(run))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    first = sum(values[0] for values in seconds.values())
    units = {f"{name}_units": round(medians[name] / medians["unit"], 3) for name in timed if name != "unit"}
    sizes = {"image_size": args.image_size, "batch": args.batch, "runs": args.runs}
    row = sizes | {"compile": args.compile, "warm_up_s": round(first, 1), "unit_s": round(medians["unit"], 4)} | units
    row["peak_mb"] = round(peak_memory_mb())
    append_row("search_step", row)
    print(json.dumps(row))


def make_unit(batch: dict, image_size: int) -> Callable[[], None]:
    """Return a function that runs both streams of effdet."""
    config = effdet.get_efficientdet_config("efficientdetv2_dt")
    config.image_size = (image_size, image_size)
    models = [effdet.EfficientDet(config, pretrained_backbone=False).eval() for _ in MODALITIES]
    images = [batch["images"][m].float().expand(-1, 3, -1, -1).contiguous() for m in MODALITIES]

    @torch.no_grad()
    def unit() -> None:
        for model, x in zip(models, images):
            model.fpn(model.backbone(x))

    return unit


def make_model(compute: Compute) -> FusionDetector:
    """Return the supernet at published sizes."""
    streams = Streams(BACKBONE, CHANNELS, REPEATS, LEVELS)
    fusions = searchable_fusions(CellSpace(len(streams.tap_names), CHANNELS), LEVELS, 0.0)
    normalization = dict.fromkeys(MODALITIES, STATISTICS)
    return compute.place(FusionDetector(streams, fusions, DetectionHead(CHANNELS, CLASSES), normalization)).train()


def make_steps(batch: dict, compute: Compute) -> dict[str, Callable[[], None]]:
    """Return both steps, with the streams and on cached taps."""
    model = make_model(compute)
    optimizers = {
        "weight_step": torch.optim.Adam(weight_parameters(model), lr=1e-6, fused=True),
        "logit_step": torch.optim.Adam(arch_parameters(model), lr=1e-6, fused=True),
    }
    session = Session(model, detection, compute, Guard(compute.device))
    samples = cached_samples(batch, model, compute, "taps")

    def live(optimizer: Optimizer) -> None:
        optimisation_step(session, [batch], optimizer)

    def cached(optimizer: Optimizer) -> None:
        features = {"features": join_features(samples)}
        optimisation_step(session, [batch | features], optimizer)

    steps = {name: partial(live, optimizer) for name, optimizer in optimizers.items()}
    return steps | {f"{name}_cached": partial(cached, optimizer) for name, optimizer in optimizers.items()}


def cached_samples(batch: dict, model: FusionDetector, compute: Compute, kind: str) -> list[dict]:
    """Return the cached features of each image of the batch, from a cache in memory."""
    stores, size = {}, len(batch["image_ids"])
    for stream in model.streams.modalities:
        maps = encode(model, batch["images"], stream, kind, compute)
        stores[stream] = MemoryStore(tuple(tuple(m.shape[1:]) for m in maps), torch.float32)
        with stores[stream].writing(size, print):
            stores[stream].add({str(i): [m[i] for m in maps] for i in range(size)})
    model.train()
    shared = {"kind": kind, "image_size": batch["image_size"]}
    return [{"features": {s: store[str(i)] for s, store in stores.items()}, **shared} for i in range(size)]


def make_batch(size: int, image_size: tuple[int, int]) -> dict:
    """Return a batch of noise with two boxes per image."""
    boxes = torch.tensor([[10.0, 10, 60, 60], [100, 100, 140, 200]])
    channels = {"rgb": 3, "thermal": 1}
    return {
        "images": {m: torch.randint(256, (size, n, *image_size)).byte() for m, n in channels.items()},
        "image_size": image_size,
        "boxes_xyxy": boxes.repeat(size, 1, 1),
        "labels": torch.tensor([0, 1]).repeat(size, 1),
        "image_ids": list(range(size)),
        "file_names": list(map(str, range(size))),
        "scales": torch.ones(size),
    }


def seconds_of(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
