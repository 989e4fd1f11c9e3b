"""A user's own set, of image pairs or single images, described by a YAML file: `--dataset my_set.yaml`.

The manual is docs/own_data.md. Paths in the file are relative to the data folder of the command line. Each field is
checked (own_fields.py).
"""

from pathlib import Path
from typing import Any

from datasets.detection import own_fields as fields
from datasets.detection.pairing import is_folder, without_suffix
from datasets.detection.sources import CHANNELS, ImageList, Source
from datasets.detection.voc_xml import read_names
from utils.errors import UserError, near, short
from utils.untrusted import checked, read_yaml

NEEDED = ("classes", "images", "annotations")
FIELDS = (*NEEDED, "modalities", "names", "xml", "aliases", "normalization", "thermal_counts")
MODALITIES = ("thermal", "rgb")  # of pairs; the first one is annotated
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
    place = {name: f"{file}: {name}" for name in FIELDS}
    classes = tuple(checked(data["classes"], *fields.NAMES, place["classes"]))
    if len(classes) > MAX_CLASSES:
        raise UserError(f"{file}: classes: expected at most {MAX_CLASSES}, found {len(classes)}")
    modalities = _modalities(place["modalities"], data.get("modalities", list(MODALITIES)))
    files = fields.mapping(place["annotations"], data["annotations"], ORIGINS, ("train",))
    images = fields.mapping(place["images"], data["images"], modalities, modalities)
    folders = {m: _folders(f"{place['images']}.{m}", images[m], list(files)) for m in modalities}
    lists = {}
    for origin, annotations in files.items():
        path = folder / checked(annotations, *fields.PATH, f"{place['annotations']}.{origin}")
        xml_files = _xml_files(place["xml"], folder, path, data.get("xml"))
        lists[origin] = ImageList(path, {m: folder / folders[m][origin] for m in modalities}, xml_files)
    if "xml" in data and not any(one.xml_files and one.annotations.is_file() for one in lists.values()):
        raise UserError(f"{file}: xml: expected only beside a list of names, found {short(data['xml'])} without one")
    return Source(
        name=file,
        folder=folder,
        classes=classes,
        aliases=fields.aliases(place["aliases"], data.get("aliases", {}), classes),
        lists=lists,
        layout=f"as described in {file}",
        channels={m: count for m, count in CHANNELS.items() if m in modalities},
        annotated=modalities[0],
        names=fields.renaming(place["names"], data.get("names", {}), modalities),
        normalization=fields.normalization(place["normalization"], data.get("normalization", {}), modalities),
        thermal_counts=fields.counts(place["thermal_counts"], data.get("thermal_counts")),
        names_repeat=len(files) > 1 and all(len(set(folders[m].values())) == len(files) for m in modalities),
    )


def _modalities(place: str, value: Any) -> tuple[str, ...]:
    """Return the modalities in the order of MODALITIES."""
    expected = f"{' or '.join(MODALITIES)}, or both"
    for modality in checked(value, *fields.NAMES, place):
        checked(modality, lambda modality: modality in MODALITIES, expected, place)
    return tuple(modality for modality in MODALITIES if modality in value)


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


def _xml_files(place: str, folder: Path, path: Path, xml: Any) -> dict[str, Path]:
    """Return the XML files of a list that is no COCO file: those in a folder, or those that a list names."""
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
        raise UserError(f"{place}: expected the folder of the XML files that {path} lists, found no such field")
    below = folder / checked(xml, *fields.PATH, place)
    if not is_folder(below):
        raise UserError(f"{place}: expected a folder, found none at {below}")
    names = read_names(path, lambda listed: str(without_suffix(listed.removesuffix(".xml"))))
    return {name: below / f"{name}.xml" for name in names}


def _folders(place: str, value: Any, origins: list[str]) -> dict[str, str]:
    """Return the image folder of each list: one for all, one with {list} in it, or one each."""
    if isinstance(value, dict):
        value = fields.mapping(place, value, origins, origins)
        return {origin: checked(value[origin], *fields.PATH, f"{place}.{origin}") for origin in origins}
    return {origin: checked(value, *fields.PATH, place).replace("{list}", origin) for origin in origins}
