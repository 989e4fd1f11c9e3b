"""A user's own set, of image pairs or single images, described by a YAML file: `--dataset my_set.yaml`.

The manual is docs/own_data.md. Paths in the file are relative to the data folder of the command line. Each field is
checked: a wrong one is one line with `place`, the names of file and field.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from datasets.detection.sources import CHANNELS, ImageList, Source, without_suffix
from datasets.detection.transforms import Normalization
from datasets.detection.voc_xml import read_names
from datasets.images import Counts
from utils.errors import UserError, near, short
from utils.untrusted import checked, is_list, is_name, is_number, is_object, read_yaml

NEEDED = ("classes", "images", "annotations")
XML_FIELDS = {"first_pixel": 0, "difficult": "use"}  # that only Pascal VOC files have a use for, and their defaults
FIELDS = (*NEEDED, "modalities", "names", "xml", *XML_FIELDS, "aliases", "normalization", "thermal_counts")
MODALITIES = ("thermal", "rgb")  # of pairs; the first one is annotated
ORIGINS = ("train", "val", "test")
MAX_CLASSES = 10_000  # each is nine channels of the head
# What a value must be, and in words.
PATH = (lambda value: is_name(value) and "\0" not in value, "a path")
NAMES = (lambda value: is_list(value, is_name) and 0 < len(set(value)) == len(value), "a list of different names")
THREE = (lambda value: is_list(value, is_number, 3) and 0 <= min(value) <= max(value) <= 1, "three numbers in 0..1")
FIRST_PIXEL = (lambda value: type(value) is int and value in (0, 1), "0 or 1, the number of the first pixel")
DIFFICULT = (lambda value: value in ("use", "ignore"), "use or ignore")
COUNTS = (lambda value: is_list(value, is_number, 2) and value[0] < value[1], "[dark, bright] with dark < bright")


def locate_own_set(folder: Path, file: str) -> Source:
    """Read the description and find the lists.

    Args:
        folder: that the description's paths begin in.
        file: the YAML file.
    Raises:
        UserError: the description cannot be read or has a wrong field; names it.
    """
    data = _read(file)
    place = {name: f"{file}: {name}" for name in FIELDS}
    classes = tuple(checked(data["classes"], *NAMES, place["classes"]))
    if len(classes) > MAX_CLASSES:
        raise UserError(f"{file}: classes: expected at most {MAX_CLASSES}, found {len(classes)}")
    modalities = _modalities(place["modalities"], data.get("modalities", list(MODALITIES)))
    files = _mapping(place["annotations"], data["annotations"], ORIGINS, ("train",))
    images = _mapping(place["images"], data["images"], modalities, modalities)
    folders = {m: _folders(f"{place['images']}.{m}", images[m], list(files)) for m in modalities}
    lists = {}
    for origin, annotations in files.items():
        path = folder / checked(annotations, *PATH, f"{place['annotations']}.{origin}")
        xml_files = _xml_files(place["xml"], folder, path, data.get("xml"))
        lists[origin] = ImageList(path, {m: folder / folders[m][origin] for m in modalities}, xml_files)
    if "xml" in data and not any(one.xml_files and one.annotations.is_file() for one in lists.values()):
        raise UserError(f"{file}: xml: expected only beside a list of names, found {short(data['xml'])} without one")
    for name in XML_FIELDS:
        if name in data and not any(image_list.xml_files for image_list in lists.values()):
            raise UserError(f"{file}: {name}: expected only beside Pascal VOC files, found {short(data[name])} without")
    xml_form = XML_FIELDS | {name: data[name] for name in XML_FIELDS if name in data}
    return Source(
        name=file,
        folder=folder,
        classes=classes,
        aliases=_aliases(place["aliases"], data.get("aliases", {}), classes),
        lists=lists,
        layout=f"as described in {file}",
        channels={m: count for m, count in CHANNELS.items() if m in modalities},
        annotated=modalities[0],
        names=_renaming(place["names"], data.get("names", {}), modalities),
        normalization=_normalization(place["normalization"], data.get("normalization", {}), modalities),
        thermal_counts=_counts(place["thermal_counts"], data.get("thermal_counts")),
        first_pixel=checked(xml_form["first_pixel"], *FIRST_PIXEL, place["first_pixel"]),
        ignore_difficult=checked(xml_form["difficult"], *DIFFICULT, place["difficult"]) == "ignore",
        names_repeat=len(files) > 1 and all(len(set(folders[m].values())) == len(files) for m in modalities),
    )


def _modalities(place: str, value: Any) -> tuple[str, ...]:
    """Return the modalities in the order of MODALITIES."""
    expected = f"{' or '.join(MODALITIES)}, or both"
    for modality in checked(value, *NAMES, place):
        checked(modality, lambda modality: modality in MODALITIES, expected, place)
    return tuple(modality for modality in MODALITIES if modality in value)


def _read(file: str) -> dict:
    data = read_yaml(file, f"--dataset {file}")
    checked(data, is_object, f"the fields {', '.join(FIELDS)}", f"--dataset {file}")
    if unknown := [str(name) for name in data if name not in FIELDS]:
        hint = near(unknown[0], FIELDS)
        raise UserError(f"{file}: expected the fields {', '.join(FIELDS)}, found {unknown[0]}{hint}")
    if missing := [name for name in NEEDED if name not in data]:
        raise UserError(f"{file}: {missing[0]}: expected this field, found only {', '.join(data) or 'an empty file'}")
    return data


def _xml_files(place: str, folder: Path, path: Path, xml: Any) -> dict[str, Path]:
    """Return the XML files of a list that is no COCO file: those in a folder, or those that a list names."""
    if path.suffix.lower() == ".json":
        return {}
    if os.path.isdir(path):
        if found := {xml_file.stem: xml_file for xml_file in sorted(path.glob("*.xml"))}:
            return found
        hint = "files in folders below it are named by a list (docs/own_data.md)"
        raise UserError(f"{path}: expected Pascal VOC files (*.xml) directly in it, found none; {hint}")
    if not path.is_file():
        raise UserError(f"{path}: expected a COCO file, a list of names or a folder of XML files, found nothing")
    if xml is None:
        raise UserError(f"{place}: expected the folder of the XML files that {path} lists, found no such field")
    below = folder / checked(xml, *PATH, place)
    if not os.path.isdir(below):
        raise UserError(f"{place}: expected a folder, found none at {below}")
    names = read_names(path, lambda listed: str(without_suffix(listed.removesuffix(".xml"))))
    return {name: below / f"{name}.xml" for name in names}


def _folders(place: str, value: Any, origins: list[str]) -> dict[str, str]:
    """Return the image folder of each list: one for all, one with {list} in it, or one each."""
    if isinstance(value, dict):
        value = _mapping(place, value, origins, origins)
        return {origin: checked(value[origin], *PATH, f"{place}.{origin}") for origin in origins}
    return {origin: checked(value, *PATH, place).replace("{list}", origin) for origin in origins}


def _renaming(place: str, value: Any, modalities: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return what is replaced in the annotated name, and what by."""
    expected = "two texts, what is replaced in the annotated name and what by"
    pairs = _mapping(place, value, modalities)
    return {m: tuple(checked(pair, _is_renaming, expected, f"{place}.{m}")) for m, pair in pairs.items()}


def _is_renaming(value: Any) -> bool:
    return is_list(value, lambda text: isinstance(text, str), 2) and value[0] != ""


def _counts(place: str, value: Any) -> Counts | None:
    return None if value is None else tuple(map(float, checked(value, *COUNTS, place)))


def _aliases(place: str, value: Any, classes: tuple[str, ...]) -> dict[str, str]:
    checked(value, is_object, "other names with their class", place)
    for alias, name in value.items():
        checked(name, lambda name: name in classes, f"one of {', '.join(classes)}", f"{place}.{alias}")
    return {str(alias): name for alias, name in value.items()}


def _normalization(place: str, value: Any, modalities: tuple[str, ...]) -> Normalization:
    result = {}
    for modality, numbers in _mapping(place, value, modalities).items():
        field = f"{place}.{modality}"
        numbers = _mapping(field, numbers, ("mean", "std"), ("mean", "std"))
        mean, std = (tuple(map(float, checked(numbers[name], *THREE, f"{field}.{name}"))) for name in ("mean", "std"))
        checked(numbers["std"], lambda std: min(std) > 0, "numbers above 0", f"{field}.std")
        result[modality] = mean, std
    return result


def _mapping(place: str, value: Any, allowed: Collection[str], needed: Collection[str] = ()) -> dict:
    checked(value, is_object, f"{', '.join(allowed)} with a value each", place)
    if unknown := [str(name) for name in value if name not in allowed]:
        raise UserError(f"{place}: expected {', '.join(allowed)}, found {unknown[0]}{near(unknown[0], allowed)}")
    if missing := [name for name in needed if name not in value]:
        raise UserError(f"{place}.{missing[0]}: expected this field, found {', '.join(value) or 'none'}")
    return value
