"""Reader of one COCO detection file: clipped boxes for training, and the file's own for evaluation.

Every fault a user can mend is one line: file, field, expected, found. Differs from `pycocotools.coco.COCO` in that it
checks what it reads and matches classes by name, so that stray categories can be renamed or dropped.

Shapes: N boxes of one image. Boxes are xyxy pixels of the original image.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError

MAX_OUTSIDE_PX = 2.0  # a box may reach out of the image by this, or by the share below, whichever is more
MAX_OUTSIDE_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """One image; `boxes_xyxy` (N, 4) float32, clipped, without crowds; `labels` (N,) int64 class channels."""

    image_id: str | int
    file_name: str
    width: int
    height: int
    boxes_xyxy: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class ParsedAnnotations:
    """What `parse_coco` found: `category_ids[k]` is the file's id of class channel k, `notes` are counts to log."""

    images: list[AnnotatedImage]
    category_ids: list[int]
    ground_truth: dict
    notes: dict[str, int]


def parse_coco(path: Path, classes: list[str], aliases: dict[str, str]) -> ParsedAnnotations:
    """Read and check one COCO detection file.

    Args:
        path: the JSON file.
        classes: names of the class channels, in order; the file must list each of them.
        aliases: other names of classes, as {"bicycle": "bike"}.
    Returns:
        The images in the file's order. `ground_truth` is restricted to `classes`, with the file's own boxes and areas
        (w * h where there is no area), crowds included, and annotation ids 1, 2, ...; its images keep "scene" where
        they have one, its "info" is the file's, or {} where that is no object. `notes` counts images, boxes, clipped
        and crowd boxes, and `dropped_NAME` boxes of categories outside the class list.
    Raises:
        UserError: the file cannot be read or an entry is wrong.
    """
    data = _read_dict(path)
    images = _read_images(path, _entries(path, data, "images"))
    names = _read_categories(path, _entries(path, data, "categories"), aliases)
    category_ids = _match_classes(path, names, classes)

    notes = Counter(images=len(images), boxes=0, clipped=0, crowd=0)
    kept = {image_id: ([], []) for image_id in images}
    annotations = []
    for number, item in enumerate(_entries(path, data, "annotations")):
        where = f"annotations[{number}]"
        image, name = _look_up(path, where, item, images, names)
        if name not in classes:
            notes[f"dropped_{name}"] += 1
            continue
        bbox = _field(path, where, item, "bbox", _is_bbox, "[x, y, width, height] in finite numbers")
        box, clipped = _clip(path, where, bbox, image)
        channel, crowd = classes.index(name), bool(item.get("iscrowd", 0))
        annotations.append(_evaluated(item, bbox, category_ids[channel], crowd, len(annotations) + 1))
        notes.update(boxes=1, clipped=int(clipped), crowd=int(crowd))
        if not crowd:
            kept[image["id"]][0].append(box)
            kept[image["id"]][1].append(channel)

    ground_truth = {
        "info": data["info"] if isinstance(data.get("info"), dict) else {},
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in zip(category_ids, classes)],
    }
    annotated = [_annotated(image, *kept[image_id]) for image_id, image in images.items()]
    return ParsedAnnotations(annotated, category_ids, ground_truth, dict(notes))


def _read_dict(path: Path) -> dict:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: expected a COCO annotation file, found none to read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected JSON in UTF-8, found other bytes at position {error.start}") from error
    if not text.strip():
        raise UserError(f"{path}: expected COCO JSON, found an empty file")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: expected whole COCO JSON, found text that stops making sense at line {error.lineno}, "
                        f"column {error.colno} of {len(text)} characters ({error.msg})") from error  # fmt: skip
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object with images, annotations and categories, found {_short(data)}")
    return data


def _entries(path: Path, data: dict, key: str) -> list[dict]:
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        found = _short(value) if key in data else "no such field"
        raise UserError(f"{path}: {key}: expected a list of objects, found {found}")
    return value


def _read_images(path: Path, items: list[dict]) -> dict[str | int, dict]:
    """Give {image id: {"id", "file_name", "width", "height"}} with unique ids of one type and unique file names.

    An image with a "scene" keeps it.
    """
    images, file_names, kind = {}, set(), None
    for number, item in enumerate(items):
        where = f"images[{number}]"
        image_id = _field(path, where, item, "id", _is_id, "a string or an integer")
        kind = kind or type(image_id)
        if type(image_id) is not kind:
            raise UserError(f"{path}: {where}.id: expected {kind.__name__} like those before, found {_short(image_id)}")
        file_name = _field(path, where, item, "file_name", _is_name, "a file name")
        if image_id in images or file_name in file_names:
            key, value = ("id", image_id) if image_id in images else ("file_name", file_name)
            raise UserError(f"{path}: {where}.{key}: expected each {key} once, found {_short(value)} again")
        file_names.add(file_name)
        sides = {k: _field(path, where, item, k, _is_side, "a positive integer (pixels)") for k in ("width", "height")}
        images[image_id] = {"id": image_id, "file_name": file_name, **sides}
        if "scene" in item:
            images[image_id]["scene"] = _field(path, where, item, "scene", _is_name, "a non-empty string")
    if not images:
        raise UserError(f"{path}: images: expected at least one image, found none")
    return images


def _read_categories(path: Path, items: list[dict], aliases: dict[str, str]) -> dict[int, str]:
    """Give {category id: class name}, aliases replaced."""
    names = {}
    for number, item in enumerate(items):
        category_id = _field(path, f"categories[{number}]", item, "id", _is_int, "an integer")
        name = _field(path, f"categories[{number}]", item, "name", _is_name, "a name")
        if category_id in names:
            raise UserError(f"{path}: categories[{number}].id: expected each id once, found {category_id} again")
        names[category_id] = aliases.get(name, name)
    return names


def _match_classes(path: Path, names: dict[int, str], classes: list[str]) -> list[int]:
    ids = {}
    for category_id, name in names.items():
        ids.setdefault(name, category_id)
    if any(name not in ids for name in classes):
        raise UserError(f"{path}: categories: expected {', '.join(classes)}, found {', '.join(ids) or 'none'}")
    return [ids[name] for name in classes]


def _look_up(path: Path, where: str, item: dict, images: dict, names: dict[int, str]) -> tuple[dict, str]:
    image_id = _field(path, where, item, "image_id", _is_id, "an image id")
    if image_id not in images:
        raise UserError(f"{path}: {where}.image_id: expected the id of a listed image, found {_short(image_id)}")
    category_id = _field(path, where, item, "category_id", _is_int, "a category id")
    if category_id not in names:
        raise UserError(f"{path}: {where}.category_id: expected one of {list(names)}, found {category_id}")
    return images[image_id], names[category_id]


def _clip(path: Path, where: str, bbox: list[float], image: dict) -> tuple[tuple[float, ...], bool]:
    """Give the box inside the image as xyxy, and whether that changed it."""
    x, y, width, height = bbox
    given = f"found {bbox} in {image['file_name']} of {image['width']}x{image['height']} px"
    if width <= 0 or height <= 0:
        raise UserError(f"{path}: {where}.bbox: expected a width and height above 0, {given}")
    box, inside = (x, y, x + width, y + height), []
    for low, high, side in ((box[0], box[2], image["width"]), (box[1], box[3], image["height"])):
        if high <= 0 or low >= side:
            raise UserError(f"{path}: {where}.bbox: expected a box that overlaps its image, {given}")
        allowed = max(MAX_OUTSIDE_PX, MAX_OUTSIDE_SHARE * side)
        if max(-low, high - side) > allowed:
            raise UserError(f"{path}: {where}.bbox: expected at most {allowed:g} px outside the image, {given}")
        inside.append((max(low, 0), min(high, side)))
    clipped = (inside[0][0], inside[1][0], inside[0][1], inside[1][1])
    return clipped, clipped != box


def _evaluated(item: dict, bbox: list[float], category_id: int, crowd: bool, number: int) -> dict:
    """Give the annotation as evaluation reads it; ids are ours, as pycocotools takes a match with id 0 for none."""
    area = item["area"] if _is_number(item.get("area")) else bbox[2] * bbox[3]
    known = {"id": number, "image_id": item["image_id"], "category_id": category_id}
    return {**known, "bbox": bbox, "area": area, "iscrowd": int(crowd)}


def _annotated(image: dict, boxes: list, labels: list) -> AnnotatedImage:
    boxes_xyxy = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    labels = np.asarray(labels, dtype=np.int64)
    return AnnotatedImage(image["id"], image["file_name"], image["width"], image["height"], boxes_xyxy, labels)


def _field(path: Path, where: str, item: dict, key: str, check: Any, expected: str) -> Any:
    if not check(item.get(key)):
        found = _short(item[key]) if key in item else "no such field"
        raise UserError(f"{path}: {where}.{key}: expected {expected}, found {found}")
    return item[key]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_id(value: Any) -> bool:
    return _is_int(value) or _is_name(value)


def _is_side(value: Any) -> bool:
    return _is_int(value) and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_bbox(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
