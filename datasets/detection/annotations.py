"""The result of every annotation reader: images with clipped boxes, and the boxes that evaluation uses.

A reader (`coco_json.py`, `voc_xml.py`) checks its own fields and yields `Box`es; `collect` checks the boxes themselves.
Every fault is one line with file, entry, expected and found; a reader passes it to `report` and goes on.

Shapes: N boxes of one image. `bbox` is [x, y, width, height], boxes_xyxy are corners; pixels of the original image.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from datasets.detection.dataset import DetectionRecord
from utils.errors import Report, UserError
from utils.untrusted import checked, is_int, is_name

MAX_OUTSIDE_PX = 2.0  # a box may reach out of the image by this, or by the share below, whichever is more
MAX_OUTSIDE_SHARE = 0.01
MAX_SIDE = 65535  # pixels; JPEG's own limit
MAX_NAME_BYTES = 255  # of a file or folder; the systems' own limit
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}")  # a file name at first sight, in no folder
FILE_NAME = "a file name below the image folder, with / between folders"  # what `is_file_name` takes, in words


@dataclass(frozen=True, eq=False)
class ParsedAnnotations:
    """What a reader found.

    Attributes:
        images: in the file's order, without paths; boxes without crowds.
        category_ids: `category_ids[k]` is the file's id of class channel k.
        ground_truth: COCO dict restricted to the classes, with the file's own boxes and areas (w * h where there is no
            area), crowds included, and annotation ids 1, 2, ...; its images keep "scene" where they have one, its
            "info" is the file's, or {} where that is no object.
        notes: counts to log: images, boxes, clipped and crowd boxes, `empty` ones (no width or height) and
            `dropped_NAME` of categories outside the class list.
        warnings: what was left out or is odd without being wrong, one line each.
    """

    images: list[DetectionRecord]
    category_ids: list[int]
    ground_truth: dict
    notes: dict[str, int | str]
    warnings: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Names of the class channels."""
        return [category["name"] for category in self.ground_truth["categories"]]


class Box(NamedTuple):
    """One box as a file has it: `place` names file and entry, `key` the entry's field that holds the box."""

    place: str
    key: str
    image_id: str | int
    name: str
    bbox: list[float]
    crowd: bool
    area: float | None


def collect(
    images: dict[str | int, dict], boxes: Iterable[Box], classes: dict[str, int], info: dict, report: Report
) -> ParsedAnnotations:
    """Check the boxes of one list and sort them by image.

    Args:
        images: {image id: {"id", "file_name", "width", "height", perhaps "scene"}}, with ids of one type.
        boxes: of these images.
        classes: the file's id of each class, by the names of the class channels, in order.
        info: what the file says of itself.
        report: gets a UserError for each box that is wrong.
    Returns:
        The images with what is right of their boxes.
    """
    notes = Counter(images=len(images), boxes=0, clipped=0, crowd=0)
    channels = {name: channel for channel, name in enumerate(classes)}
    kept: dict[str | int, tuple[list, list]] = {image_id: ([], []) for image_id in images}
    annotations, warnings, seen = [], [], set()
    for box in boxes:  # COCO has 860,000: what each of them goes through is kept short
        if box.name not in classes:
            notes[f"dropped_{box.name}"] += 1
            continue
        image, channel = images[box.image_id], channels[box.name]
        if _is_empty(box.bbox):
            notes["empty"] += 1
            warnings.append(f"{_given(box, image)}: no width or height: left out")
            continue
        try:
            clipped = _clip(box, image)
        except UserError as error:
            report(error)
            continue
        if (twice := (box.image_id, channel, *box.bbox)) in seen:
            warnings.append(f"{_given(box, image)}: the same {box.name} again: kept")
        seen.add(twice)
        area = box.bbox[2] * box.bbox[3] if box.area is None else box.area
        annotations.append(
            {
                "id": len(annotations) + 1,  # from 1, since pycocotools takes a match with id 0 for none
                "image_id": box.image_id,
                "category_id": classes[box.name],
                "bbox": box.bbox,
                "area": area,
                "iscrowd": int(box.crowd),
            }
        )
        notes["boxes"] += 1
        if clipped != _corners(box.bbox):
            notes["clipped"] += 1
        if box.crowd:
            notes["crowd"] += 1
        else:
            kept[box.image_id][0].append(clipped)
            kept[box.image_id][1].append(channel)
    ground_truth = {
        "info": info,
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for name, i in classes.items()],
    }
    records = [_record(image, *kept.pop(image_id)) for image_id, image in images.items()]
    return ParsedAnnotations(records, list(classes.values()), ground_truth, dict(notes), warnings)


def field_of(item: dict, key: str, fits: Callable[[Any], bool], expected: str, place: str) -> Any:
    """Return a field of an entry; UserError where it is missing or does not fit."""
    if key not in item:
        raise UserError(f"{place}.{key}: expected {expected}, found no such field")
    return checked(item[key], fits, expected, f"{place}.{key}")


def is_file_name(value: Any) -> bool:
    """Tell whether a name stays below the folder that it is looked up in, whatever the system.

    It has folders parted by / alone, none of which begins with two points, no drive, and can be a file's name at all.
    """
    if isinstance(value, str) and PLAIN_NAME.fullmatch(value):
        return True
    if not is_name(value) or any(c in value for c in "\0\\") or PureWindowsPath(value).anchor:
        return False
    try:
        parts = [part.encode() for part in value.split("/")]
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return all(len(part) <= MAX_NAME_BYTES and not part.startswith(b"..") for part in parts)


def is_side(value: Any) -> bool:
    return is_int(value) and 0 < value <= MAX_SIDE


def _is_empty(bbox: list[float]) -> bool:
    """Tell whether nothing is left of a box in float32, as training sees it; a negative size is another fault."""
    x, y, width, height = bbox
    if width >= 1 and height >= 1 and abs(x) <= MAX_SIDE and abs(y) <= MAX_SIDE:
        return False  # float32 has 128 steps or more to a pixel there
    x1, y1, x2, y2 = map(np.float32, _corners(bbox))
    return min(bbox[2:]) >= 0 and bool(x1 == x2 or y1 == y2)


def _clip(box: Box, image: dict) -> tuple[float, ...]:
    """Return the box clipped to the image as xyxy."""
    x1, y1, x2, y2 = corners = _corners(box.bbox)
    if 0 <= x1 < x2 <= image["width"] and 0 <= y1 < y2 <= image["height"]:
        return corners

    def wrong(expected: str) -> UserError:
        return UserError(f"{box.place}.{box.key}: expected {expected}, found {_in_words(box, image)}")

    if min(box.bbox[2:]) < 0:
        raise wrong("a width and height above 0")
    inside = []
    for low, high, side in ((corners[0], corners[2], image["width"]), (corners[1], corners[3], image["height"])):
        if high <= 0 or low >= side:
            raise wrong("a box that overlaps its image")
        allowed = max(MAX_OUTSIDE_PX, MAX_OUTSIDE_SHARE * side)
        if max(-low, high - side) > allowed:
            raise wrong(f"at most {allowed:g} px outside the image")
        inside.append((max(low, 0), min(high, side)))
    return inside[0][0], inside[1][0], inside[0][1], inside[1][1]


def _corners(bbox: list[float]) -> tuple[float, ...]:
    x, y, width, height = bbox
    return x, y, x + width, y + height


def _in_words(box: Box, image: dict) -> str:
    return f"{box.bbox} in {image['file_name']} of {image['width']}x{image['height']} px"


def _given(box: Box, image: dict) -> str:
    return f"{box.place}.{box.key}: {_in_words(box, image)}"


def _record(image: dict, boxes: list, labels: list) -> DetectionRecord:
    boxes_xyxy = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    labels = np.asarray(labels, dtype=np.int64)
    return DetectionRecord(image["id"], image["file_name"], {}, image["width"], image["height"], boxes_xyxy, labels)
