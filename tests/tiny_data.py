"""A tiny FLIR-Aligned data set, drawn: real JPEGs in one of the layouts with COCO files, layout 2 unless told.

Objects are bright rectangles on a dark noisy ground, at the same place in both modalities: persons tall and red,
bikes square and green, cars wide and blue; each class has its own thermal level.
"""

import json
import random
from pathlib import Path

import torch
from torchvision.io import write_jpeg

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
    """
    numbers = {"train": num_train, "val": num_val, "test": num_test}
    annotation_file, words = LAYOUTS[layout]
    draws = random.Random(seed)
    noise = torch.Generator().manual_seed(seed)
    first = 1
    for split, word in words.items():
        images, annotations = [], []
        for number in range(first, first + numbers[split]):
            stem = f"FLIR_{number:05d}_PreviewData"
            image_id = stem if string_ids else number
            images.append({"id": image_id, "file_name": f"{stem}.jpeg", "width": size[1], "height": size[0]})
            if scenes:
                images[-1]["scene"] = scenes[number % len(scenes)]
            objects = [] if split == "train" and number % 5 == 0 else draw_objects(draws, size)
            write_pair(Path(folder), word, number, size, objects, noise)
            for name, bbox in objects:
                entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": [*LOOKS].index(name) + 1}
                annotations.append({**entry, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
        first += numbers[split]
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        if info is not None:
            content["info"] = info | {"list": split}
        meta = Path(folder) / annotation_file.format(word)
        meta.parent.mkdir(parents=True, exist_ok=True)
        meta.write_text(json.dumps(content))
    return Path(folder)


def draw_objects(draws: random.Random, size: tuple[int, int]) -> list[tuple[str, list[int]]]:
    """Draw one to three (class name, [x, y, width, height]), each in its own third of the width."""
    third, objects = size[1] // 3, []
    for column in draws.sample(range(3), draws.randint(1, 3)):
        name = draws.choice(list(LOOKS))
        width = round(LOOKS[name][0] * third * draws.uniform(0.8, 1.1))
        height = round(LOOKS[name][1] * size[0] * draws.uniform(0.8, 1.2))
        x, y = column * third + draws.randint(0, third - width), draws.randint(0, size[0] - height)
        objects.append((name, [x, y, width, height]))
    return objects


def write_pair(
    folder: Path, word: str, number: int, size: tuple[int, int], objects: list, noise: torch.Generator
) -> None:
    """Write both files of one pair."""
    rgb = torch.randint(20, 60, (3, *size), generator=noise, dtype=torch.uint8)
    thermal = torch.randint(20, 60, (1, *size), generator=noise, dtype=torch.uint8)
    for name, (x, y, width, height) in objects:
        rgb[:, y : y + height, x : x + width] = torch.tensor(LOOKS[name][2], dtype=torch.uint8)[:, None, None]
        thermal[:, y : y + height, x : x + width] = LOOKS[name][3]
    names = {"rgb": f"FLIR_{number:05d}_RGB.jpg", "thermal": f"FLIR_{number:05d}_PreviewData.jpeg"}
    for modality, image in (("rgb", rgb), ("thermal", thermal)):
        path = folder / f"images_{modality}_{word}" / "data" / names[modality]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(image, str(path), quality=95)
