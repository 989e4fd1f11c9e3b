"""Write synthetic aligned RGB-thermal road scenes to disk, in FLIR-Aligned's layout 1, with boxes and conditions.

    python -m datasets.road_scenes DIR --seed 1 --train 1400 --val 140 --test 420 --width 192

DIR gets `images_thermal_{train_train,train_val,val}/flir.json` for train, val and test, pictures in
`images_thermal_X/data/` and `images_rgb_X/data/`. Conditions take turns, so every part holds equally many of each. Each
pair follows from (seed, part, number) alone: a longer list begins with the shorter one. The annotation file names the
renderer's hash. How scenes look and fail: datasets/scenes/.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from datasets.scenes import scenes_hash
from datasets.scenes.scene import CLASSES, conditions, render_scene
from utils.args import Parser, command
from utils.errors import UserError
from utils.files import faults_named, new_folder
from utils.run_folder import write_json

PARTS = {"train": "train_train", "val": "train_val", "test": "val"}  # as layout 1 calls them
QUALITY = 95  # of the JPEG files, as a sensor's own
LARGEST = 640  # pixels across: FLIR's own
SIZES = {"train": 1400, "val": 140, "test": 420, "width": 192}  # pairs of each part, pixels; as `make demo` has them


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    write_road_scenes(Path(args.folder), args.seed, {p: getattr(args, p) for p in PARTS}, args.width, args.workers)
    print(f"scenes: {args.folder} (hash {scenes_hash()}, seed {args.seed})")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Render synthetic RGB-thermal road scenes, in FLIR-Aligned's layout.")
    parser.add_argument("folder", metavar="DIR", help="new or empty folder")
    parser.add_argument("--seed", type=int, default=1, help="seed of every scene (1)")
    for name, number in SIZES.items():
        what = f"of a picture in pixels, up to {LARGEST}" if name == "width" else "pairs"
        parser.add_argument(f"--{name}", type=int, default=number, help=f"{what} ({number})")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (one per core)")
    args = parser.parse_args(argv)
    for name, least in {"seed": 0, "train": 1, "val": 1, "test": 1, "workers": 1}.items():
        if getattr(args, name) < least:
            raise UserError(f"--{name}: expected a whole number from {least}, found {getattr(args, name)}")
    check_width(args.width)
    return args


def check_width(width: int) -> None:
    if not 64 <= width <= LARGEST:
        raise UserError(f"--width: expected 64 to {LARGEST} pixels, found {width}")


def write_road_scenes(folder: Path, seed: int, counts: dict[str, int], width: int, workers: int = 1) -> None:
    """Render and write all parts.

    Args:
        folder: new or empty.
        seed: whole number from 0.
        counts: pairs of "train", "val" and "test".
        width: of the pictures, pixels.
        workers: processes that render; what is written does not depend on their number.
    Raises:
        UserError: the folder holds something, or cannot be written.
    """
    new_folder(folder)
    with faults_named(folder):
        for name in PARTS.values():
            for modality in ("rgb", "thermal"):
                (folder / f"images_{modality}_{name}" / "data").mkdir(parents=True)
    with ProcessPoolExecutor(workers) as pool:  # starts no process before it has work
        run = map if workers == 1 else partial(pool.map, chunksize=8)
        for place, (part, number) in enumerate(counts.items()):
            pairs = run(partial(write_pair, folder, seed, place, width), range(number))
            entries = list(tqdm(pairs, f"render {part}", number, leave=False, disable=None))
            write_json(folder / f"images_thermal_{PARTS[part]}" / "flir.json", to_coco(entries, seed, width))


def write_pair(folder: Path, seed: int, place: int, width: int, number: int) -> dict:
    """Render one pair, write both pictures, and return its image entry and boxes; `place` is the part's, 0 to 2."""
    names = conditions()
    scene = render_scene((seed, place, number), width, names[number % len(names)])
    part, stem = list(PARTS.values())[place], f"SCENE_{place}{number:05d}"
    files = {"thermal": (scene.thermal, f"{stem}_PreviewData.jpeg"), "rgb": (scene.rgb, f"{stem}_RGB.jpg")}
    for modality, (pixels, name) in files.items():
        Image.fromarray(pixels).save(folder / f"images_{modality}_{part}" / "data" / name, quality=QUALITY)
    height, width = scene.thermal.shape
    image = {"id": stem, "file_name": files["thermal"][1], "width": width, "height": height}
    image |= {"scene": scene.condition, "local_failures": scene.local_failures}
    objects = zip(scene.boxes_xyxy.tolist(), scene.labels.tolist(), scene.crowd.tolist())
    boxes = [
        {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": label + 1, "iscrowd": int(crowd)}
        for (x1, y1, x2, y2), label, crowd in objects
    ]
    return {"image": image, "boxes": boxes}


def to_coco(entries: list[dict], seed: int, width: int) -> dict:
    """Return the annotation file of one part."""
    annotations = []
    for entry in entries:
        for box in entry["boxes"]:
            area = box["bbox"][2] * box["bbox"][3]
            annotations.append({"id": len(annotations) + 1, "image_id": entry["image"]["id"], "area": area} | box)
    return {
        "info": {"renderer": "road_scenes", "hash": scenes_hash(), "seed": seed, "width": width},
        "images": [entry["image"] for entry in entries],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
    }


if __name__ == "__main__":
    raise SystemExit(main())
