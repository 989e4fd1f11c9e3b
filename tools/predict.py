"""Detect objects in pairs of pictures, or in those of one sensor: files, folders or videos, with a trained run.

    python -m tools.predict --eval_exp_dir RUN --rgb A --thermal B --out DIR [--score 0.3]

Needs the run folder alone. Writes DIR/detections.json (COCO, with images and categories) and what was found as
pictures, thermal beside RGB, or as DIR/video.mp4. One of the two sensors may be missing, of a whole call or of single
pairs in folders; a network of two sees black then. Two pictures belong together when their names are the same but for
what names the sensor (FLIR_00003_RGB, FLIR_00003_PreviewData). Frames are paired by time.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.io import write_jpeg
from torchvision.utils import draw_bounding_boxes
from tqdm import tqdm

from datasets.classification.video import Video, is_video, side_by_side, video_writer
from datasets.detection.sources import images_in, without_suffix
from datasets.images import SUFFIXES
from report.plots import BOX_COLOURS
from tasks.detection.predictor import SENSORS, Pair, Predictor
from utils.args import Parser, command
from utils.errors import UserError, printable
from utils.files import faults_named
from utils.option_types import positive, probability
from utils.run_folder import write_json

OF_SENSOR = re.compile(r"[_-](rgb|visible|vis|thermal|infrared|ir|lwir|previewdata)$", re.IGNORECASE)
SHOWN = 5  # names in a message
QUALITY = 90  # of JPEG
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
LINES_PER_PICTURE = 32  # text lines that would fill the height of a picture
MIN_TEXT_SIZE = 9  # pixels
Named = tuple[str, Pair]
Paths = dict[str, Path]  # by sensor, those that are there
Found = dict[str, list[dict[str, Any]]]  # COCO: images, annotations, categories


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    paths = {sensor: Path(getattr(args, sensor)) for sensor in SENSORS if getattr(args, sensor)}
    kind = kind_of(paths)
    predictor = Predictor(args.eval_exp_dir, args.device)
    out = new_folder(args.out)
    say_what_is_missing(predictor, paths)
    faults: list[UserError] = []
    if kind == "video":
        found = predict_video(predictor, paths, args, out / "video.mp4")
    else:
        one_pair = {OF_SENSOR.sub("", [*paths.values()][-1].stem): paths}
        files = pairs_in(paths) if kind == "folder" else one_pair
        items = tqdm(read_all(predictor, files, faults), predictor.unit, len(files), leave=False, disable=None)
        found = predict(predictor, items, args, lambda name, image: write_jpeg(image, f"{out / name}.jpg", QUALITY))
    path = out / "detections.json"
    write_json(path, found)
    counts = f"{len(found['images'])} {predictor.unit}, {len(found['annotations'])} objects"
    print(f"{counts} of a score of at least {args.score:g}")
    print(f"detections: {path}")
    if faults:
        more = f", and {len(faults) - 1} more {predictor.unit}" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}; all others are in {path}")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Detect objects in a pair of pictures, in two folders of them, or in two videos.")
    add = parser.add_argument
    add("--eval_exp_dir", required=True, metavar="RUN", help="training run whose best.pt detects")
    add("--rgb", metavar="PATH", help="RGB picture, folder of pictures, or video; may be missing (none)")
    add("--thermal", metavar="PATH", help="thermal picture, folder of pictures, or video; may be missing (none)")
    add("--out", required=True, metavar="DIR", help="a new folder for detections.json and pictures or video")
    add("--score", type=probability, default=0.3, help="the least score of an object, 0 to 1 (0.3)")
    add("--batchsize", type=positive, default=8, help="pairs at once (8)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    return parser.parse_args(argv)


def kind_of(paths: Paths) -> str:
    """Return "file", "folder" or "video", of what is given; UserError where that is nothing, or not of one kind."""
    if not paths:
        raise UserError("expected --rgb, --thermal or both, found neither")
    kinds = {}
    for sensor, path in paths.items():
        if not path.exists():
            raise UserError(f"--{sensor} {path}: expected a picture, a folder of pictures or a video, found nothing")
        kinds[sensor] = "folder" if path.is_dir() else "video" if is_video(path) else "file"
    if len(set(kinds.values())) > 1:
        found = " and ".join(f"a {kind} for --{sensor}" for sensor, kind in kinds.items())
        raise UserError(f"expected two pictures, two folders or two videos, found {found}")
    return kinds.popitem()[1]


def new_folder(path: str) -> Path:
    """Make a folder; UserError where there is one with something in it, or none can be made."""
    out = Path(path)
    with faults_named(out):
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"--out {out}: expected a new or an empty folder, found one with files")
    return out


def say_what_is_missing(predictor: Predictor, paths: Paths) -> None:
    for sensor in SENSORS:
        if sensor in predictor.sensors and sensor not in paths:
            print(f"no --{sensor}: the network sees black in its place; one trained with --modality_dropout bears it")
        if sensor in paths and sensor not in predictor.sensors:
            print(f"--{sensor}: not looked at: the network ({predictor.method}) reads {predictor.sensors[0]} alone")


def pairs_in(paths: Paths) -> dict[str, Paths]:
    """Return the pictures of folders by the name of their pair; what has no partner is said.

    Raises:
        UserError: a folder has no picture, or two of one pair.
    """
    pairs: dict[str, Paths] = {}
    for sensor, folder in paths.items():
        images = images_in(folder)
        if not images:
            raise UserError(f"--{sensor} {folder}: expected pictures ({', '.join(SUFFIXES)}), found none")
        for path in (Path(file) for files in images.values() for file in files):
            name = OF_SENSOR.sub("", str(without_suffix(path.name)))
            chosen = pairs.setdefault(name, {}).setdefault(sensor, path).name
            if chosen != path.name:
                raise UserError(f"--{sensor} {folder}: expected one picture of {name}, found {chosen} as well")
    for sensor in paths:
        lacking = sorted(name for name, pair in pairs.items() if sensor not in pair)
        if lacking:
            shown = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
            print(printable(f"{len(lacking)} of {len(pairs)} pairs have no {sensor} picture: {shown}"))
    return dict(sorted(pairs.items()))


def read_all(predictor: Predictor, files: dict[str, Paths], faults: list[UserError]) -> Iterator[Named]:
    """Read pairs; one that cannot be read is added to `faults` and passed over."""
    for name, paths in files.items():
        try:
            yield name, predictor.pair(*(paths.get(sensor) for sensor in SENSORS))
        except UserError as error:
            faults.append(error)


def predict_video(predictor: Predictor, paths: Paths, args: argparse.Namespace, out: Path) -> Found:
    """Detect in each frame of a video, or pair of frames of two; writes what is shown as a video."""
    videos = {sensor: Video(path, sensor == "thermal", predictor.thermal_counts) for sensor, path in paths.items()}
    first = videos.get("thermal") or videos["rgb"]
    total = min(video.count for video in videos.values()) or None
    with video_writer(out, first.rate) as write:
        items = tqdm(frames(predictor, videos), "frames", total, leave=False, disable=None)
        return predict(predictor, items, args, lambda name, shown: write(shown))


def frames(predictor: Predictor, videos: dict[str, Video]) -> Iterator[Named]:
    """Give the pairs of frames, named by number; of one video, pairs without the other sensor."""
    if len(videos) == 2:
        shown = ({"thermal": one, "rgb": other} for one, other in side_by_side(videos["thermal"], videos["rgb"]))
    else:
        shown = ({sensor: frame} for sensor, video in videos.items() for _, frame in video)
    for number, pictures in enumerate(shown):
        yield f"{number:06d}", predictor.pair(pictures.get("rgb"), pictures.get("thermal"))


def predict(
    predictor: Predictor, items: Iterable[Named], args: argparse.Namespace, keep: Callable[[str, Tensor], object]
) -> Found:
    """Return what is found in COCO form; each pair with its objects goes to `keep(name, picture)`, uint8 (3, h, w)."""
    categories = {name: number for number, name in enumerate(predictor.classes, 1)}
    images, annotations, items = [], [], iter(items)
    while batch := list(islice(items, args.batchsize)):
        for (name, pair), found in zip(batch, predictor.detect([pair for _, pair in batch], args.score), strict=True):
            height, width = pair.size
            images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
            annotations += [as_coco(one, len(images), categories) for one in found]
            keep(name, draw_pair(pair, found, predictor.classes))
    named = [{"id": number, "name": name} for name, number in categories.items()]
    annotations = [{"id": number} | annotation for number, annotation in enumerate(annotations, 1)]
    return {"images": images, "annotations": annotations, "categories": named}


def draw_pair(pair: Pair, found: list[dict[str, Any]], classes: list[str]) -> Tensor:
    """Draw boxes, classes and scores on a pair; returns uint8 (3, h, w), or (3, h, 2 w) where both pictures exist.

    Args:
        found: detections as `Predictor.detect` returns them, in pixels of the pair.
        classes: names of all classes; each gets a colour.
    """
    images = [image.expand(3, -1, -1) for image in (pair.thermal, pair.rgb) if image is not None]
    return torch.cat([_draw_boxes(image, found, classes) for image in images], dim=2)


def _draw_boxes(image: Tensor, found: list[dict[str, Any]], classes: list[str]) -> Tensor:
    if not found:
        return image
    size = max(image.shape[-2] // LINES_PER_PICTURE, MIN_TEXT_SIZE)
    boxes = torch.tensor([detection["box_xyxy"] for detection in found])
    colours = [BOX_COLOURS[classes.index(detection["class"]) % len(BOX_COLOURS)] for detection in found]
    boxed = draw_bounding_boxes(image, boxes, colors=colours, width=max(round(size / 8), 1))
    picture = Image.fromarray(np.ascontiguousarray(boxed.permute(1, 2, 0).numpy()))
    draw, font = ImageDraw.Draw(picture), ImageFont.truetype(str(FONT), size)
    for detection, colour in zip(found, colours, strict=True):
        left, top = detection["box_xyxy"][:2]
        position = (left, top - 1.3 * size if top > 1.3 * size else top)  # above the box where there is room
        text = f"{detection['class']} {detection['score']:.2f}"
        draw.text(position, text, fill=colour, font=font, stroke_width=max(size // 8, 1), stroke_fill="black")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def as_coco(found: dict[str, Any], image: int, categories: dict[str, int]) -> dict[str, Any]:
    """Return an object as a COCO annotation without id, with its score, rounded as of a test; bbox is xywh in px."""
    x1, y1, x2, y2 = found["box_xyxy"]
    bbox, score = [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)], round(found["score"], 6)
    facts = {"image_id": image, "category_id": categories[found["class"]], "score": score}
    return facts | {"bbox": bbox, "area": round(bbox[2] * bbox[3], 3), "iscrowd": 0}


if __name__ == "__main__":
    raise SystemExit(main())
