"""Time a training step of a single-modality detector in channels-last and in contiguous layout, in turn.

    python -m benchmarks.memory_format [--backbones lcnet_100 efficientnetv2_rw_t] [--image_size 256 320] [--runs 7]

Rows: results/memory_format.csv, medians and their ratio.
"""

import argparse
import statistics
import time

import torch

from benchmarks.rows import append_row
from models.detection.backbones import create_encoder, encoder_channels
from models.detection.detector import SingleDetector
from models.detection.heads.efficientdet import DetectionHead
from models.detection.necks.bifpn import BiFPN
from tasks.detection.flira import FLIRA

BATCH = 4
STATISTICS = {"rgb": ((0.5,) * 3, (0.25,) * 3)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["lcnet_100", "efficientnetv2_rw_t"])
    parser.add_argument("--image_size", type=int, nargs=2, default=[256, 320])
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args(argv)
    batch = make_batch(*args.image_size)
    for backbone in args.backbones:
        layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        models = {name: make_model(backbone, layout) for name, layout in layouts.items()}
        seconds = {name: [] for name in layouts}
        for _ in range(args.runs + 1):  # the first of each warms up
            for name, model in models.items():
                seconds[name].append(timed_step(model, batch))
        medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
        sizes = {"backbone": backbone, "image_size": "x".join(map(str, args.image_size)), "batch": BATCH}
        times = {f"{name}_s": round(value, 4) for name, value in medians.items()}
        ratio = round(medians["contiguous"] / medians["channels_last"], 2)
        append_row("memory_format", sizes | times | {"ratio": ratio, "runs": args.runs})
        print(backbone, times, ratio, flush=True)


def make_model(backbone: str, layout: torch.memory_format) -> SingleDetector:
    """Build a detector whose weights and normalised images have the layout."""
    encoder = create_encoder(backbone)
    fpn = BiFPN(encoder_channels(encoder), 64, 2)
    model = SingleDetector("rgb", encoder, fpn, DetectionHead(64, 3, anchor_scale=2.0), STATISTICS)
    model.normalize.register_forward_hook(lambda _, __, images: images.contiguous(memory_format=layout))
    return model.to(memory_format=layout).train()


def make_batch(height: int, width: int) -> dict:
    boxes = torch.tensor([[10.0, 10, 60, 60], [100, 100, 140, 200]])
    return {
        "images": {"rgb": torch.randint(256, (BATCH, 3, height, width)).byte()},
        "image_size": (height, width),
        "boxes_xyxy": boxes.repeat(BATCH, 1, 1),
        "labels": torch.tensor([0, 1]).repeat(BATCH, 1),
        "scales": torch.ones(BATCH),
    }


def timed_step(model: SingleDetector, batch: dict) -> float:
    """Return the seconds of one forward and backward pass."""
    started = time.perf_counter()
    FLIRA.losses(model, batch)["loss"].backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
