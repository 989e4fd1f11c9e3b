"""Measures how fast files become samples, here and in effdet's loader, on the same pairs and one thread.

    python -m benchmarks.data_path [DIR] [--dataset flir_aligned] [--image_size 256 768] [--pairs 32] [--runs 7]

Ours is the detection data set without augmentation. effdet's is Pillow, `convert("RGB")` and `transforms_coco_eval`,
which also returns uint8, once for RGB and once for thermal: that loader reads every file as three channels. All pairs
are prepared by one loader, then by the other, RUNS times; medians. Without DIR, the real pairs of
NAS_DSF_DATA/flir_aligned_mini are used if that variable is set, else rendered road scenes of 640 px. Prints a JSON
object per image size. Rows: results/data_path.csv.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from benchmarks.rows import append_row
from datasets.detection.dataset import DetectionDataset, DetectionRecord
from datasets.detection.detection_data import DetectionData
from datasets.detection.names import dataset_name
from datasets.detection.opening import open_data_set
from datasets.detection.transforms import DetectionTransform
from datasets.road_scenes import LARGEST, write_road_scenes
from utils.args import Parser, command
from utils.errors import UserError
from utils.option_types import positive

MODALITIES = ("rgb", "thermal")

Prepare = Callable[[int], object]  # the index of a record


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    effdet_path = import_effdet_path()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or render(Path(scratch), args.pairs)
        data = open_data_set(folder, args.dataset)
        records = data.records["train"][: args.pairs]
        for side in args.image_size:
            paths = {"ours": our_path(data, records, side), "effdet": effdet_path(records, side)}
            rates = {name: round(len(records) / s, 1) for name, s in seconds(paths, len(records), args.runs).items()}
            row = {"image_size": side, "pairs": len(records), "runs": args.runs}
            row["files"] = Path(args.folder).resolve().name if args.folder else f"road scenes of {LARGEST} px"
            row |= {f"{name}_pairs_per_s": rate for name, rate in rates.items()}
            row["ratio"] = round(rates["ours"] / rates["effdet"], 2)
            append_row("data_path", row)
            print(json.dumps(row), flush=True)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Measure how fast files become samples, here and in effdet's loader.")
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        help="folder of the data set (NAS_DSF_DATA/flir_aligned_mini, else road scenes)",
    )
    parser.add_argument("--dataset", type=dataset_name, default="flir_aligned", help="layout of DIR (flir_aligned)")
    parser.add_argument("--image_size", type=positive, nargs="+", default=[256, 768], help="pixels (256 768)")
    parser.add_argument("--pairs", type=positive, default=32, help="first pairs of the training list (32)")
    parser.add_argument("--runs", type=positive, default=7, help="passes by each loader, after a warm-up (7)")
    args = parser.parse_args(argv)
    if not args.folder and os.environ.get("NAS_DSF_DATA"):
        args.folder = str(Path(os.environ["NAS_DSF_DATA"]) / "flir_aligned_mini")
    return args


def render(folder: Path, pairs: int) -> Path:
    write_road_scenes(folder, 1, {"train": pairs, "val": 1, "test": 1}, LARGEST, os.cpu_count())
    return folder


def our_path(data: DetectionData, records: list[DetectionRecord], side: int) -> Prepare:
    transform = DetectionTransform((side, side), data.fill, train=False)
    return DetectionDataset(records, transform, data.channels, data.thermal_counts).__getitem__


def import_effdet_path() -> Callable[[list[DetectionRecord], int], Prepare]:
    """Return effdet's loader as (records, side) -> function of an index.

    Raises:
        UserError: effdet, which only the tests need, is not installed.
    """
    try:
        from effdet.data.transforms import transforms_coco_eval
    except ImportError as error:
        raise UserError(
            f"effdet: expected it installed (pip install -r requirements-dev.txt), found: {error}"
        ) from None

    def effdet_path(records: list[DetectionRecord], side: int) -> Prepare:
        transform = transforms_coco_eval((side, side), use_prefetcher=True)
        return lambda index: {modality: effdet_sample(transform, records[index], modality) for modality in MODALITIES}

    return effdet_path


def effdet_sample(transform: Callable, record: DetectionRecord, modality: str) -> tuple:
    """Return the image, uint8 (3, side, side), and the annotation with resized boxes of one file of a pair."""
    with Image.open(record.paths[modality]) as file:
        image = file.convert("RGB")
    boxes_yxyx = record.boxes_xyxy[:, [1, 0, 3, 2]]  # a copy, since the transform clips in place
    return transform(image, {"bbox": boxes_yxyx, "cls": record.labels.copy(), "img_size": image.size})


def seconds(paths: dict[str, Prepare], pairs: int, runs: int) -> dict[str, float]:
    """Return the median time of each path for all pairs."""
    times = {name: [] for name in paths}
    for _ in range(runs + 1):  # the first pass of each is a warm-up
        for name, prepare in paths.items():
            started = time.perf_counter()
            for index in range(pairs):
                prepare(index)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    raise SystemExit(main())
