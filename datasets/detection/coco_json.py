"""Reader of one COCO detection file.

Differs from `pycocotools.coco.COCO` in that it checks what it reads and matches classes by name, so that stray
categories can be renamed or dropped.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from datasets.detection.annotations import FILE_NAME, Box, ParsedAnnotations, collect, field_of, is_file_name, is_side
from utils.errors import Report, UserError, refuse, reported, short
from utils.untrusted import check_plain, checked, is_int, is_list, is_name, is_number, is_object, plain_file

NUMBERS, MAX_NUMBER = {int, float}, 2**53  # as of `is_number`
SHOWN_NAMES = 20  # of a file's categories, in messages


def parse_coco(path: Path, classes: list[str], aliases: dict[str, str], report: Report = refuse) -> ParsedAnnotations:
    """Read and check one COCO detection file.

    Args:
        path: the JSON file.
        classes: names of the class channels, in order; the file must list each of them. None: all that it lists.
        aliases: other names of classes, as {"bicycle": "bike"}.
        report: gets a UserError for each entry that is wrong; that entry is left out.
    Returns:
        The images in the file's order, with the boxes of `classes`.
    Raises:
        UserError: the file cannot be read, or its lists or categories are not as they must be.
    """
    data = read_coco(path)
    items = _entries(path, data, "annotations")
    images, faulty = _read_images(path, _entries(path, data, "images"), report)
    names = _read_categories(path, _entries(path, data, "categories"), aliases)
    class_ids = _match_classes(path, names, classes or list(dict.fromkeys(names.values())))
    info = data["info"] if isinstance(data.get("info"), dict) else {}
    check_plain(info, f"{path}: info")
    boxes = _boxes(path, items, images, faulty, names, report)
    return collect(images, boxes, class_ids, info, report)


def read_coco(path: Path) -> dict:
    """Read a JSON file that holds an object; UserError where it does not."""
    try:
        text = plain_file(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected JSON in UTF-8, found other bytes at position {error.start}") from error
    except (OSError, ValueError) as error:  # the latter: a path that no file can have
        reason = getattr(error, "strerror", error)
        raise UserError(f"{path}: expected a COCO annotation file, found none to read ({reason})") from error
    if not text.strip():
        raise UserError(f"{path}: expected COCO JSON, found an empty file")
    try:
        data = json.loads(text, object_hook=_without_masks)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno} of {len(text)} characters ({error.msg})"
        expected = "expected whole COCO JSON, found text that stops making sense"
        raise UserError(f"{path}: {expected} at {place}") from error
    except (RecursionError, ValueError) as error:  # lists nested too deeply, numbers of thousands of digits
        raise UserError(f"{path}: expected COCO JSON, found what cannot be read ({error})") from None
    return checked(data, is_object, "a JSON object with images, annotations and categories", str(path))


def _without_masks(item: dict) -> dict:
    """Drop the masks of an object as soon as it is read: four fifths of COCO's file are masks."""
    item.pop("segmentation", None)
    return item


def _entries(path: Path, data: dict, key: str) -> list[dict]:
    if key not in data:
        raise UserError(f"{path}: {key}: expected a list of objects, found no such field")
    return checked(data.pop(key), lambda value: is_list(value, is_object), "a list of objects", f"{path}: {key}")


def _read_images(path: Path, items: list[dict], report: Report) -> tuple[dict[str | int, dict], set]:
    """Give {image id: {"id", "file_name", "width", "height"}}, with unique ids of one type and unique file names.

    An image with a "scene" keeps it. The second result holds ids of faulty images, whose boxes have no place.
    """
    images, file_names, faulty = {}, set(), set()
    for number, item in enumerate(items):
        with reported(report):
            image = _read_image(f"{path}: images[{number}]", item, images, file_names)
            file_names.add(image["file_name"])
            images[image["id"]] = image
            continue
        # Boxes of it may name it by its id, or, where that is what is wrong, by its file.
        faulty |= {i for i in (item.get("id"), _stem(item)) if _is_id(i) and i not in images}
    if not items:
        raise UserError(f"{path}: images: expected at least one image, found none")
    return images, faulty


def _read_image(place: str, item: dict, images: dict, file_names: set[str]) -> dict:
    image_id = field_of(item, "id", _is_id, "a string or an integer", place)
    kind = type(next(iter(images), image_id))
    checked(image_id, lambda value: type(value) is kind, f"{kind.__name__} like those before", f"{place}.id")
    file_name = field_of(item, "file_name", is_file_name, FILE_NAME, place)
    if image_id in images or file_name in file_names:
        key, value = ("id", image_id) if image_id in images else ("file_name", file_name)
        raise UserError(f"{place}.{key}: expected each {key} once, found {short(value)} again")
    sides = {k: field_of(item, k, is_side, "a positive integer (pixels)", place) for k in ("width", "height")}
    scene = {"scene": field_of(item, "scene", is_name, "a non-empty string", place)} if "scene" in item else {}
    return {"id": image_id, "file_name": file_name, **sides, **scene}


def _read_categories(path: Path, items: list[dict], aliases: dict[str, str]) -> dict[int, str]:
    """Give {category id: class name}, aliases replaced."""
    names = {}
    for number, item in enumerate(items):
        place = f"{path}: categories[{number}]"
        category_id = field_of(item, "id", is_int, "an integer", place)
        name = field_of(item, "name", is_name, "a name", place)
        if category_id in names:
            raise UserError(f"{place}.id: expected each id once, found {category_id} again")
        names[category_id] = aliases.get(name, name)
    return names


def _match_classes(path: Path, names: dict[int, str], classes: list[str]) -> dict[str, int]:
    if not classes:
        raise UserError(f"{path}: categories: expected classes with names, found none")
    ids = {name: category_id for category_id, name in reversed(names.items())}  # of one name twice the first
    if any(name not in ids for name in classes):
        listed = list(dict.fromkeys(names.values()))
        found = ", ".join(listed[:SHOWN_NAMES]) + ", ..." * (len(listed) > SHOWN_NAMES)
        raise UserError(f"{path}: categories: expected {', '.join(classes)}, found {found or 'none'}")
    return {name: ids[name] for name in classes}


def _boxes(
    path: Path, items: list[dict], images: dict, faulty: set, names: dict[int, str], report: Report
) -> Iterator[Box]:
    reported_ids = set(faulty)
    ids = (item.get("image_id") for item in items)
    lost = Counter(i for i in ids if type(i) in (int, str) and i not in images and _is_id(i))
    for number, item in enumerate(items):
        items[number] = {}  # makes room for what is kept of it
        place, image_id = f"{path}: annotations[{number}]", item.get("image_id")
        if _fits(item, images, names):
            crowd = bool(item.get("iscrowd", 0))
            yield Box(place, "bbox", image_id, names[item["category_id"]], item["bbox"], crowd, item.get("area"))
            continue
        if not (_is_id(image_id) and image_id in lost):
            with reported(report):
                yield _read_box(place, item, names)
        elif image_id not in reported_ids:
            reported_ids.add(image_id)  # many boxes of one image that is not listed are one fault
            boxes = f"{lost[image_id]} box{'es' * (lost[image_id] > 1)}"
            expected = f"expected the id of a listed image, found {short(image_id)} ({boxes})"
            report(UserError(f"{place}.image_id: {expected}"))


def _fits(item: dict, images: dict, names: dict[int, str]) -> bool:
    """Tell at first sight whether `_read_box` takes an entry; it finds out what is wrong with others."""
    image_id, category_id, bbox = item.get("image_id"), item.get("category_id"), item.get("bbox")
    area, crowd = item.get("area", 0), item.get("iscrowd", 0)
    if type(image_id) not in (int, str) or type(category_id) is not int or type(crowd) is not int:
        return False
    if image_id not in images or category_id not in names or not 0 <= crowd <= 1:
        return False
    if type(bbox) is not list or len(bbox) != 4 or type(area) not in (int, float) or not 0 <= area < MAX_NUMBER:
        return False
    x, y, width, height = bbox
    if not {type(x), type(y), type(width), type(height)} <= NUMBERS:
        return False
    large = MAX_NUMBER
    return -large < x < large and -large < y < large and -large < width < large and -large < height < large


def _read_box(place: str, item: dict, names: dict[int, str]) -> Box:
    image_id = field_of(item, "image_id", _is_id, "an image id", place)
    category_id = field_of(item, "category_id", is_int, "a category id", place)
    if category_id not in names:
        raise UserError(f"{place}.category_id: expected one of {short(list(names))}, found {category_id}")
    bbox = field_of(item, "bbox", _is_bbox, "[x, y, width, height] in finite numbers", place)
    area, crowd = item.get("area"), item.get("iscrowd", 0)
    if area is not None:
        field_of(item, "area", lambda value: is_number(value) and value >= 0, "a number from 0, or none", place)
    checked(crowd, lambda value: value in (0, 1) and type(value) in (int, bool), "0 or 1", f"{place}.iscrowd")
    return Box(place, "bbox", image_id, names[category_id], bbox, bool(crowd), area)


def _stem(item: dict) -> str | None:
    return PurePosixPath(item["file_name"]).stem if is_name(item.get("file_name")) else None


def _is_id(value: Any) -> bool:
    return is_int(value) or is_name(value)


def _is_bbox(value: Any) -> bool:
    return is_list(value, is_number, 4)
