"""A tiny FLIR-Aligned data set, drawn: real JPEGs in one of the layouts with COCO files, layout 2 unless told.

Other layouts and data sets of the same pairs: tiny_sets.py.

Objects are bright rectangles on a dark noisy ground, at the same place in both modalities: persons tall and red,
bikes square and green, cars wide and blue; each class has its own thermal level.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torchvision.io import write_jpeg

# The options of a network as small as these images ask for, as a config has them.
NETWORK = """\
backbone: test_efficientnet
C: 16
num_input_nodes: 4
fusion_levels: 3
image_size: 64x80
anchor_scale: 2
"""
# A config of all commands on these images.
CONFIG = f"""{NETWORK}batchsize: 3
workers: 0
device: cpu
no_report: true
pretrain: {{no-imagenet: true, epochs: 1, head_epochs: 1, drop_path: 0}}
search: {{epochs: 2}}
found: {{epochs: 2}}
"""
# Per class: share of a third of the width, share of the height, RGB, thermal level.
LOOKS = {
    "person": (0.4, 0.6, (230, 50, 40), 250),
    "bike": (0.6, 0.25, (40, 220, 60), 190),
    "car": (0.9, 0.3, (60, 80, 240), 140),
}
CATEGORIES = [{"id": number, "name": name} for number, name in enumerate(LOOKS, 1)]
# Per layout: annotation file, and the word in names of files and folders for each list.
LAYOUTS = {
    "1": ("images_thermal_{}/flir.json", {"train": "train", "test": "val"}),
    "1 in three": ("images_thermal_{}/flir.json", {"train": "train_train", "val": "train_val", "test": "val"}),
    "2": ("meta/thermal/flir_{}.json", {"train": "train", "test": "test"}),
}


class Pair(NamedTuple):
    """A drawn pair: its file number, its objects as (class name, [x, y, width, height]), its images by modality."""

    number: int
    objects: list[tuple[str, list[int]]]
    images: dict[str, torch.Tensor]


def make_tiny_flir(
    folder: Path,
    num_train: int = 12,
    num_test: int = 4,
    size: tuple[int, int] = (64, 80),
    seed: int = 0,
    string_ids: bool = True,
    layout: str = "2",
    num_val: int = 3,
    scenes: tuple[str, ...] = (),
    info: dict | None = None,
    step: int = 1,
) -> Path:
    """Write the data set and return `folder`.

    Args:
        folder: made if missing.
        num_train, num_test: pairs; file numbers go on from list to list. Every fifth training pair has no object.
        size: (height, width) of all images in pixels.
        seed: of places, sizes, classes and noise.
        string_ids: image ids are strings, as in the real set, or integers.
        layout: one of `LAYOUTS`.
        num_val: pairs of the own val list, where the layout has one.
        scenes: each image's "scene" in turn; no image has one where this is empty.
        info: of each annotation file, with its list's name as "list" added; left out where this is None.
        step: between the file numbers of two pairs.
    """
    numbers = {"train": num_train, "val": num_val, "test": num_test}
    annotation_file, words = LAYOUTS[layout]
    for split, pairs in draw_lists({split: numbers[split] for split in words}, size, seed, step=step).items():
        content = coco_content(pairs, size, thermal_name, string_ids)
        for image, pair in zip(content["images"], pairs if scenes else ()):
            image["scene"] = scenes[pair.number % len(scenes)]
        if info is not None:
            content["info"] = info | {"list": split}
        write_json(Path(folder) / annotation_file.format(words[split]), content)
        write_flir_images(Path(folder), words[split], pairs)
    return Path(folder)


def draw_lists(
    numbers: dict[str, int],
    size: tuple[int, int] = (64, 80),
    seed: int = 0,
    classes: tuple[str, ...] = (*LOOKS,),
    step: int = 1,
) -> dict[str, list[Pair]]:
    """Draw the pairs of each list, given how many; the same arguments give the same pairs."""
    draws, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    lists, first = {}, 1
    for split, num in numbers.items():
        lists[split] = []
        for number in range(first, first + num):
            objects = [] if split == "train" and number % 5 == 0 else draw_objects(draws, size, classes)
            lists[split].append(Pair(number * step, objects, draw_images(size, objects, noise)))
        first += num
    return lists


def draw_objects(
    draws: random.Random, size: tuple[int, int], classes: tuple[str, ...] = (*LOOKS,)
) -> list[tuple[str, list[int]]]:
    """Draw one to three (class name, [x, y, width, height]), each in its own third of the width."""
    third, objects = size[1] // 3, []
    for column in draws.sample(range(3), draws.randint(1, 3)):
        name = draws.choice(classes)
        width = round(LOOKS[name][0] * third * draws.uniform(0.8, 1.1))
        height = round(LOOKS[name][1] * size[0] * draws.uniform(0.8, 1.2))
        x, y = column * third + draws.randint(0, third - width), draws.randint(0, size[0] - height)
        objects.append((name, [x, y, width, height]))
    return objects


def draw_images(size: tuple[int, int], objects: list, noise: torch.Generator) -> dict[str, torch.Tensor]:
    """Draw uint8 "rgb" (3, h, w) and "thermal" (1, h, w)."""
    rgb = torch.randint(20, 60, (3, *size), generator=noise, dtype=torch.uint8)
    thermal = torch.randint(20, 60, (1, *size), generator=noise, dtype=torch.uint8)
    for name, (x, y, width, height) in objects:
        rgb[:, y : y + height, x : x + width] = torch.tensor(LOOKS[name][2], dtype=torch.uint8)[:, None, None]
        thermal[:, y : y + height, x : x + width] = LOOKS[name][3]
    return {"rgb": rgb, "thermal": thermal}


def coco_content(pairs: list[Pair], size: tuple[int, int], name: Callable[[int], str], string_ids: bool = True) -> dict:
    """Give the COCO file of a list; `name` gives the annotated file name from the number."""
    images, annotations = [], []
    for number, objects, _ in pairs:
        image_id = name(number).rpartition(".")[0] if string_ids else number
        images.append({"id": image_id, "file_name": name(number), "width": size[1], "height": size[0]})
        for kind, bbox in objects:
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": [*LOOKS].index(kind) + 1}
            annotations.append({**entry, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def thermal_name(number: int) -> str:
    return f"FLIR_{number:05d}_PreviewData.jpeg"


def rgb_name(number: int) -> str:
    return f"FLIR_{number:05d}_RGB.jpg"


def write_flir_images(folder: Path, word: str, pairs: list[Pair]) -> None:
    """Write the images of one list of layout 1 or 2."""
    for pair in pairs:
        write_image(folder / f"images_rgb_{word}" / "data" / rgb_name(pair.number), pair.images["rgb"])
        write_image(folder / f"images_thermal_{word}" / "data" / thermal_name(pair.number), pair.images["thermal"])


def write_image(path: Path, image: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jpeg(image, str(path), quality=95)


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
