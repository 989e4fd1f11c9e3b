"""Measures how long a data set of COCO's size takes to be opened, cut and begun with, and how much memory.

    python -m benchmarks.coco_scale [--ranks 1 2] [--images 118287] [--boxes 860000]

Makes annotation files as large as COCO 2017's, masks included, and links to a few black pictures in the place of its
images. Each rank is a process that opens the set, cuts it, and makes its share of the first training batch. "seconds"
are those of the slowest rank, after its imports; "cpu_seconds" are not stretched by other work of the machine. Appends
a row for each number of ranks to results/coco_scale.csv.
"""

import json
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torchvision.io import write_jpeg

from benchmarks.rows import append_row
from datasets.data_module import LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from utils.args import Parser, command
from utils.distributed import Ranks
from utils.option_types import positive
from utils.subprocesses import command_line, environment

VAL = (5_000, 36_781)  # images and boxes of COCO's val list
SIZES = ((640, 480), (640, 427), (480, 640), (500, 375))  # (width, height), taken in turn
CLASSES, CROWD_EVERY, MASK = 80, 86, [[123.45] * 56]  # one mask of COCO is about as long
RANK = "--rank"  # of one process: its folder, number and how many there are


@command(joins=False)
def main(argv: list[str]) -> None:
    parser = Parser("Measure opening a data set of COCO's size.")
    parser.add_argument("--ranks", type=positive, nargs="+", default=[1, 2], help="processes side by side (1 2)")
    parser.add_argument("--images", type=positive, default=118_287, help="of the training list (118,287)")
    parser.add_argument("--boxes", type=positive, default=860_000, help="of the training list (860,000)")
    parser.add_argument(RANK, nargs=3, help="used by the benchmark itself")
    args = parser.parse_args(argv)
    if args.rank:
        folder, number, count = args.rank
        print(json.dumps(measure(folder, Ranks(int(number), int(count)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder), args.images, args.boxes)
        size = (Path(folder) / "annotations/instances_train2017.json").stat().st_size
        for count in args.ranks:
            row = {"images": args.images, "boxes": args.boxes, "json_mb": round(size / 1e6), "ranks": count}
            row |= of_ranks(folder, count)
            append_row("coco_scale", row)
            print(row, flush=True)


def of_ranks(folder: str, count: int) -> dict[str, float]:
    """Return what the slowest, and the largest, of some ranks side by side needs."""
    lines = [command_line("benchmarks.coco_scale", RANK, folder, number, count) for number in range(count)]
    ranks = [subprocess.Popen(line, stdout=subprocess.PIPE, env=environment()) for line in lines]
    measured = [json.loads(rank.communicate()[0]) for rank in ranks]
    return {name: max(one[name] for one in measured) for name in measured[0]}


def measure(folder: str, ranks: Ranks) -> dict[str, float]:
    """Open the set as a training does, and make this rank's share of the first batch."""
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu_started = time.perf_counter(), time.process_time()
    images = ImageOptions((800, 1344), hflip=0.5, canvas="oriented")
    module = open_data(folder, "coco2017", images, LoaderOptions(16))
    opened = time.perf_counter()
    loader = module.loader("train", train=True, ranks=ranks)
    samples = [loader.dataset[key] for key in next(iter(loader.batches))]
    assert module.data.collate(samples)["images"]
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "open_seconds": round(opened - started, 1),
        "seconds": round(ended - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "imported_mib": round(imported / 1024),
        "peak_mib": round(peak / 1024),
    }


def write_set(folder: Path, images: int, boxes: int) -> None:
    """Write the annotation files of both lists, and links to pictures of the annotated sizes."""
    for width, height in SIZES:
        write_jpeg(torch.zeros(3, height, width, dtype=torch.uint8), str(folder / f"{width}x{height}.jpg"))
    (folder / "annotations").mkdir()
    for part, first, (num_images, num_boxes) in (("train", 1, (images, boxes)), ("val", images + 1, VAL)):
        (folder / f"{part}2017").mkdir()
        with open(folder / f"annotations/instances_{part}2017.json", "w", encoding="utf-8") as file:
            file.write('{"info": {}, "licenses": [], "images": [')
            file.write(",".join(entries_of_images(folder / f"{part}2017", first, num_images)))
            file.write('], "annotations": [')
            file.writelines(entries_of_boxes(first, num_images, num_boxes))
            categories = [{"supercategory": "", "id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
            file.write(f'], "categories": {json.dumps(categories)}}}')


def entries_of_images(folder: Path, first: int, count: int) -> Iterator[str]:
    for number in range(first, first + count):
        (width, height), name = SIZES[number % len(SIZES)], f"{number:012d}.jpg"
        (folder / name).symlink_to(f"../{width}x{height}.jpg")
        fields = {"license": 1, "file_name": name, "height": height, "width": width, "id": number}
        yield json.dumps(fields | {"coco_url": f"http://example.org/{folder.name}/{name}"})


def entries_of_boxes(first: int, images: int, count: int) -> Iterator[str]:
    draws, mask = random.Random(0), json.dumps(MASK)
    for number in range(1, count + 1):
        image = first + draws.randrange(images)
        width, height = SIZES[image % len(SIZES)]
        w, h = (round(draws.uniform(2, side / 2), 2) for side in (width, height))
        x, y = (round(draws.uniform(0, room), 2) for room in (width - w, height - h))
        crowd, category = int(number % CROWD_EVERY == 0), draws.randrange(1, CLASSES + 1)
        yield (
            f'{"," * (number > 1)}{{"segmentation": {mask}, "area": {w * h * 0.6:.4f}, "iscrowd": {crowd}, '
            f'"image_id": {image}, "bbox": [{x}, {y}, {w}, {h}], "category_id": {category}, "id": {number}}}'
        )


if __name__ == "__main__":
    raise SystemExit(main())
