"""A user's own RGB-thermal set, described by a YAML file: `--dataset my_set.yaml`. The manual: docs/own_data.md.

Paths in it are relative to the data folder of the command line. Each field is checked; a wrong one is one line.
"""

from pathlib import Path
from typing import Any

from datasets.detection.annotations import is_name, is_number
from datasets.detection.pairing import MODALITIES, is_folder, same_name, without_suffix
from datasets.detection.sources import NORMALIZATION, PairList, Source
from datasets.detection.voc_xml import read_names
from datasets.images import Counts
from utils.errors import UserError, near, short
from utils.plain import read_yaml

FIELDS = ("classes", "images", "annotations", "names", "xml", "aliases", "normalization", "thermal_counts")
NEEDED = FIELDS[:3]
ORIGINS = ("train", "val", "test")
MAX_CLASSES = 10_000  # each is nine channels of the head


def locate_own_set(folder: Path, file: str) -> Source:
    """Read the description and find the lists.

    Args:
        folder: that the description's paths begin in.
        file: the YAML file.
    Raises:
        UserError: the description cannot be read or has a wrong field; names it.
    """
    data = _read(file)
    classes = tuple(_list(file, "classes", data["classes"]))
    if len(classes) > MAX_CLASSES:
        raise UserError(f"{file}: classes: expected at most {MAX_CLASSES}, found {len(classes)}")
    files = _mapping(file, "annotations", data["annotations"], ORIGINS, ("train", "test"))
    images = _mapping(file, "images", data["images"], MODALITIES, MODALITIES)
    folders = {m: _folders(file, f"images.{m}", images[m], list(files)) for m in MODALITIES}
    lists = {}
    for origin, annotations in files.items():
        own = {m: folder / folders[m][origin] for m in MODALITIES}
        path = folder / _text(file, f"annotations.{origin}", annotations)
        lists[origin] = PairList(path, own, _xml_files(file, folder, path, data.get("xml")))
    if "xml" in data and not any(one.xml_files and one.annotations.is_file() for one in lists.values()):
        raise UserError(f"{file}: xml: expected only beside a list of names, found {short(data['xml'])} without one")
    return Source(
        name=file,
        folder=folder,
        classes=classes,
        aliases=_aliases(file, data.get("aliases", {}), classes),
        lists=lists,
        layout=f"as described in {file}",
        names=_names(file, data.get("names", {})),
        normalization=_normalization(file, data.get("normalization", {})),
        thermal_counts=_counts(file, data.get("thermal_counts")),
        names_repeat=all(len(set(folders[m].values())) == len(files) for m in MODALITIES),
    )


def _read(file: str) -> dict:
    data = read_yaml(file, f"--dataset {file}")
    if not isinstance(data, dict):
        raise UserError(f"--dataset {file}: expected the fields {', '.join(FIELDS)}, found {short(data)}")
    for name in data:
        if name not in FIELDS:
            raise UserError(f"{file}: expected the fields {', '.join(FIELDS)}, found {name}{near(str(name), FIELDS)}")
    for name in NEEDED:
        if name not in data:
            raise UserError(f"{file}: {name}: expected this field, found only {', '.join(data) or 'an empty file'}")
    return data


def _xml_files(file: str, folder: Path, path: Path, xml: Any) -> dict[str, Path]:
    """Give the XML files of a list that is no COCO file: those in a folder, or those that a list names."""
    if path.suffix.lower() == ".json":
        return {}
    if is_folder(path):
        found = {xml_file.stem: xml_file for xml_file in sorted(path.glob("*.xml"))}
        if not found:
            raise UserError(
                f"{path}: expected Pascal VOC files (*.xml) directly in it, found none; files in folders below it are "
                "named by a list (docs/own_data.md)"
            )
        return found
    if not path.is_file():
        raise UserError(f"{path}: expected a COCO file, a list of names or a folder of XML files, found nothing")
    if xml is None:
        raise UserError(f"{file}: xml: expected the folder of the XML files that {path} lists, found no such field")
    below = folder / _text(file, "xml", xml)
    if not is_folder(below):
        raise UserError(f"{file}: xml: expected a folder, found none at {below}")
    names = read_names(path, lambda listed: str(without_suffix(listed.removesuffix(".xml"))))
    return {name: below / f"{name}.xml" for name in names}


def _folders(file: str, field: str, value: Any, origins: list[str]) -> dict[str, str]:
    """Give the image folder of each list: one for all, one with {list} in it, or one each."""
    if isinstance(value, dict):
        value = _mapping(file, field, value, tuple(origins), tuple(origins))
        return {origin: _text(file, f"{field}.{origin}", value[origin]) for origin in origins}
    return {origin: _text(file, field, value).replace("{list}", origin) for origin in origins}


def _names(file: str, value: Any) -> dict:
    """Give, by modality, the image's name from the annotated one: {rgb: [from, to]} replaces a part of it."""
    names = dict.fromkeys(MODALITIES, same_name)
    for modality, pair in _mapping(file, "names", value, MODALITIES, ()).items():
        if not isinstance(pair, list) or len(pair) != 2 or not is_name(pair[0]) or not isinstance(pair[1], str):
            raise UserError(
                f"{file}: names.{modality}: expected two texts, what is replaced in the annotated name and what by, "
                f"found {short(pair)}"
            )
        names[modality] = _replacing(*pair)
    return names


def _replacing(old: str, new: str):
    return lambda name: name.replace(old, new)


def _aliases(file: str, value: Any, classes: tuple[str, ...]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise UserError(f"{file}: aliases: expected other names with their class, found {short(value)}")
    for name, known in value.items():
        if known not in classes:
            raise UserError(f"{file}: aliases.{name}: expected one of {', '.join(classes)}, found {short(known)}")
    return {str(name): known for name, known in value.items()}


def _normalization(file: str, value: Any) -> dict:
    result = dict(NORMALIZATION)
    for modality, numbers in _mapping(file, "normalization", value, MODALITIES, ()).items():
        field = f"normalization.{modality}"
        numbers = _mapping(file, field, numbers, ("mean", "std"), ("mean", "std"))
        result[modality] = tuple(_three(file, f"{field}.{name}", numbers[name]) for name in ("mean", "std"))
        if min(result[modality][1]) <= 0:
            raise UserError(f"{file}: {field}.std: expected numbers above 0, found {short(numbers['std'])}")
    return result


def _three(file: str, field: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3 or not all(is_number(v) and 0 <= v <= 1 for v in value):
        raise UserError(f"{file}: {field}: expected three numbers in 0..1, found {short(value)}")
    return tuple(map(float, value))


def _counts(file: str, value: Any) -> Counts | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)) or value[0] >= value[1]:
        raise UserError(f"{file}: thermal_counts: expected [dark, bright] with dark < bright, found {short(value)}")
    return float(value[0]), float(value[1])


def _mapping(file: str, field: str, value: Any, known: tuple[str, ...], needed: tuple[str, ...]) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{file}: {field}: expected {', '.join(known)} with a value each, found {short(value)}")
    for name in value:
        if name not in known:
            raise UserError(f"{file}: {field}: expected {', '.join(known)}, found {name}{near(str(name), known)}")
    for name in needed:
        if name not in value:
            raise UserError(f"{file}: {field}.{name}: expected this field, found {', '.join(value) or 'none'}")
    return value


def _list(file: str, field: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(map(is_name, value)) or len(set(value)) < len(value):
        raise UserError(f"{file}: {field}: expected a list of different names, found {short(value)}")
    return value


def _text(file: str, field: str, value: Any) -> str:
    if not is_name(value) or "\0" in value:
        raise UserError(f"{file}: {field}: expected a path, found {short(value)}")
    return value
