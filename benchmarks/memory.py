"""Measures peak memory of a weight and a logit step of the published search, by image size, batch and cache.

    python -m benchmarks.memory [--image_size 256 512 768] [--batch 2 4 8] [--caches off taps encoder] [--amp]

Each combination runs in a separate process, on the GPU if there is one, else on the CPU. `cache_mb_per_pair` is the
size of a cache entry in float32, per pair and mirror variant. Prints a JSON object per row. Rows: results/memory.csv.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context

import torch

from benchmarks.rows import append_row
from benchmarks.search_step import cached_samples, make_batch, make_model
from datasets.detection.dataset import join_features
from engine.compute import Compute, keep_freed_memory
from engine.epochs import peak_memory_mb
from engine.nonfinite import Guard
from engine.step import Session, optimisation_step
from models.search.parameters import arch_parameters, weight_parameters
from tasks.detection.flira import FLIRA as detection
from utils.args import Parser, command
from utils.option_types import positive


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    for side, size, cache in product(args.image_size, args.batch, args.caches):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # peak memory is measured per process
            numbers = pool.submit(measure, side, size, cache, args.amp).result()
        row = {"image_size": side, "batch": size, "cache": cache, "amp": args.amp} | numbers
        append_row("memory", row)
        print(json.dumps(row), flush=True)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Measure the peak memory of search steps at published sizes.")
    parser.add_argument("--image_size", type=positive, nargs="+", default=[256, 512, 768], help="pixels (256 512 768)")
    parser.add_argument("--batch", type=positive, nargs="+", default=[2, 4, 8], help="pairs (2 4 8)")
    caches = ["off", "taps", "encoder"]
    parser.add_argument("--caches", nargs="+", choices=caches, default=caches, help="kinds of cached features (all)")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast (off)")
    return parser.parse_args(argv)


def measure(side: int, size: int, cache: str, amp: bool) -> dict[str, float]:
    """Take a weight and a logit step twice; returns peak memory and the cache per pair, both in MiB."""
    keep_freed_memory()  # as the commands do
    compute = Compute(torch.device("cuda" if torch.cuda.is_available() else "cpu"), amp, clip_grad=10.0)
    model, batch, cached_bytes = make_model(compute), make_batch(size, (side, side)), 0
    if cache != "off":
        # One image at a time, so that filling the cache does not set the peak.
        samples = [cached_samples(make_batch(1, (side, side)), model, compute, cache)[0] for _ in range(size)]
        cached_bytes = sum(m.numel() * m.element_size() for maps in samples[0]["features"].values() for m in maps)
        batch["features"] = join_features(samples)
        del batch["images"]
        if compute.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
    session = Session(model, detection, compute, Guard(compute.device))
    sides = weight_parameters(model), arch_parameters(model)
    optimizers = [torch.optim.Adam(parameters, lr=1e-6, fused=True) for parameters in sides]
    for optimizer in optimizers * 2:  # twice, since the first step creates the state of the optimisers
        optimisation_step(session, [batch], optimizer)
    return {"peak_mb": round(peak_memory_mb()), "cache_mb_per_pair": round(cached_bytes / 2**20, 1)}


if __name__ == "__main__":
    raise SystemExit(main())
