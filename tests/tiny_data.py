"""A tiny FLIR-Aligned data set, drawn: real JPEGs in the layout with `meta/thermal/flir_{train,test}.json`.

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


def make_tiny_flir(
    folder: Path,
    num_train: int = 12,
    num_test: int = 4,
    size: tuple[int, int] = (64, 80),
    seed: int = 0,
    string_ids: bool = True,
) -> Path:
    """Write the data set and return `folder`.

    Args:
        folder: made if missing.
        num_train, num_test: pairs; file numbers go on from train to test. Every fifth training pair has no object.
        size: (height, width) of all images in pixels.
        seed: of places, sizes, classes and noise.
        string_ids: image ids are strings, as in the real set, or integers.
    """
    draws = random.Random(seed)
    noise = torch.Generator().manual_seed(seed)
    first = 1
    for split, num in (("train", num_train), ("test", num_test)):
        images, annotations = [], []
        for number in range(first, first + num):
            stem = f"FLIR_{number:05d}_PreviewData"
            image_id = stem if string_ids else number
            images.append({"id": image_id, "file_name": f"{stem}.jpeg", "width": size[1], "height": size[0]})
            objects = [] if split == "train" and number % 5 == 0 else draw_objects(draws, size)
            write_pair(Path(folder), split, number, size, objects, noise)
            for name, bbox in objects:
                entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": [*LOOKS].index(name) + 1}
                annotations.append({**entry, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
        first += num
        meta = Path(folder) / "meta" / "thermal" / f"flir_{split}.json"
        meta.parent.mkdir(parents=True, exist_ok=True)
        meta.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
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
    folder: Path, split: str, number: int, size: tuple[int, int], objects: list, noise: torch.Generator
) -> None:
    """Write both files of one pair."""
    rgb = torch.randint(20, 60, (3, *size), generator=noise, dtype=torch.uint8)
    thermal = torch.randint(20, 60, (1, *size), generator=noise, dtype=torch.uint8)
    for name, (x, y, width, height) in objects:
        rgb[:, y : y + height, x : x + width] = torch.tensor(LOOKS[name][2], dtype=torch.uint8)[:, None, None]
        thermal[:, y : y + height, x : x + width] = LOOKS[name][3]
    names = {"rgb": f"FLIR_{number:05d}_RGB.jpg", "thermal": f"FLIR_{number:05d}_PreviewData.jpeg"}
    for modality, image in (("rgb", rgb), ("thermal", thermal)):
        path = folder / f"images_{modality}_{split}" / "data" / names[modality]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(image, str(path), quality=95)
