"""Where the files of a data set lie, and opening it: one reader for all of them.

A data set file (`flir_aligned.py`, `llvip.py`, ...) only looks which files are there and gives a `Source`; annotations
are read and images looked up here. Nothing is written, no image is opened.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from datasets.annotations import AnnotatedImage, ParsedAnnotations
from datasets.coco_json import parse_coco
from datasets.images import SUFFIXES, Counts
from datasets.paired_detection import Normalization, PairedData, PairRecord
from datasets.voc_xml import parse_voc
from utils.errors import Report, UserError, refuse, reported

MODALITIES = ("thermal", "rgb")
SPELLED = {"thermal": "thermal", "rgb": "RGB"}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FLIR_THERMAL = ((0.519, 0.519, 0.519), (0.225, 0.225, 0.225))
NORMALIZATION = {"rgb": IMAGENET, "thermal": FLIR_THERMAL}  # where a data set does not name its own


class MissingImage(UserError):
    """An image, or a folder of images, that is not there."""


def same_name(name: str) -> str:
    """Return the name of the other image where both have one."""
    return name


@dataclass(frozen=True)
class PairList:
    """Where one list's files lie.

    Attributes:
        annotations: the COCO file, or the file or folder that names the images of a Pascal VOC list.
        folders: of the images, by modality; may be one.
        xml_files: by the image's name without suffix, where the annotations are Pascal VOC.
    """

    annotations: Path
    folders: dict[str, Path]
    xml_files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where a data set's files lie.

    Attributes:
        name: as `--dataset` has it.
        classes: names of the class channels, in order.
        aliases: other names of classes in the files.
        lists: "train", "test", and "val" where the data set brings its own.
        layout: which of the known forms was found, in words.
        names: by modality, the image's name from the annotated one, both with folders and without suffix.
        normalization: (mean of 3, standard deviation of 3) in 0..1 of each modality.
        thermal_counts: 16-bit values that become black and white, see `images.read_thermal`.
        names_repeat: lists may use one name for different pairs, which are then told apart by their list.
    """

    name: str
    folder: Path
    classes: tuple[str, ...]
    aliases: dict[str, str]
    lists: dict[str, PairList]
    layout: str
    names: dict[str, Callable[[str], str]] = field(default_factory=lambda: dict.fromkeys(MODALITIES, same_name))
    normalization: Normalization = field(default_factory=lambda: NORMALIZATION)
    thermal_counts: Counts | None = None
    names_repeat: bool = False


def open_source(source: Source, report: Report = refuse) -> PairedData:
    """Read all lists and find both images of each pair.

    Args:
        source: from a data set file.
        report: gets a UserError for each fault; what is faulty is left out. A list that cannot be read at all is empty.
    Returns:
        The pairs; the notes of "train" name the layout.
    """
    parsed = {}
    for origin, one in source.lists.items():
        parsed[origin] = _nothing(source)
        with reported(report):
            parsed[origin] = _parse(source, one, report)
    _check_boxes_and_categories(source, parsed, report)
    records = {}
    for origin, one in source.lists.items():
        prefix = f"{origin}/" if source.names_repeat else ""
        records[origin] = pair_images(parsed[origin].images, one.folders, source.names, prefix, report)
    notes = {origin: annotations.notes for origin, annotations in parsed.items()}
    return PairedData(
        name=source.name,
        classes=list(source.classes),
        category_ids=parsed["train"].category_ids,
        records=records,
        ground_truth={origin: annotations.ground_truth for origin, annotations in parsed.items()},
        notes=notes | {"train": {"layout": source.layout} | notes["train"]},
        normalization=source.normalization,
        thermal_counts=source.thermal_counts,
        remarks=tuple(remark for annotations in parsed.values() for remark in annotations.remarks),
    )


def _parse(source: Source, one: PairList, report: Report) -> ParsedAnnotations:
    classes = list(source.classes)
    if one.xml_files:
        return parse_voc(one.xml_files, classes, source.aliases, report)
    return parse_coco(one.annotations, classes, source.aliases, report)


def _nothing(source: Source) -> ParsedAnnotations:
    truth = {"info": {}, "images": [], "annotations": [], "categories": []}
    return ParsedAnnotations([], list(range(1, len(source.classes) + 1)), truth, {"images": 0, "boxes": 0})


def _check_boxes_and_categories(source: Source, parsed: dict[str, ParsedAnnotations], report: Report) -> None:
    """Refuse a training list without boxes, and lists that number classes differently."""
    train, file = parsed["train"], source.lists["train"].annotations
    with reported(report):
        if train.images and not any(len(image.labels) for image in train.images):
            dropped = {k.removeprefix("dropped_"): v for k, v in train.notes.items() if k.startswith("dropped_")}
            found = ", ".join(f"{v} of {k}" for k, v in dropped.items())
            raise UserError(
                f"{file}: annotations: expected at least one box of {', '.join(source.classes)} to train on, "
                f"found none{f' (but {found})' if found else ''}"
            )
    for origin, annotations in parsed.items():
        with reported(report):
            if annotations.images and train.images and annotations.category_ids != train.category_ids:
                expected, found = (dict(zip(source.classes, p.category_ids)) for p in (train, annotations))
                raise UserError(
                    f"{source.lists[origin].annotations}: categories: expected the ids of {file}, {expected}, "
                    f"found {found}"
                )


def find_lists(folders: list[Path]) -> dict[str, Path]:
    """Find the COCO files of the lists by the words train, val and test in their names.

    Args:
        folders: where to look; what is below them is not. A name with two of the words is passed over.
    Returns:
        Those that are there, by our name of the list. Where there is no test list, val is tested on.
    Raises:
        UserError: two files are named alike.
    """
    lists = {}
    for path in [path for folder in folders for path in sorted(folder.glob("*.json"))]:
        words = {"train", "val", "test"} & set(re.split(r"[^a-z]+", path.stem.lower()))
        if len(words) != 1:  # train_val.json is no list of ours: it holds two of them
            continue
        (origin,) = words
        if origin in lists:
            raise UserError(f"{path}: expected one list of {origin} pairs, found {lists[origin]} as well")
        lists[origin] = path
    if "val" in lists and "test" not in lists:
        lists["test"] = lists.pop("val")
    return lists


def image_names(folder: Path) -> list[str]:
    """Return the names, without suffix, of the images in a folder, at least one."""
    names = sorted(_images_in(folder))
    if not names:
        raise UserError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none")
    return names


def pair_images(
    images: list[AnnotatedImage],
    folders: dict[str, Path],
    names: dict[str, Callable[[str], str]],
    prefix: str = "",
    report: Report = refuse,
) -> list[PairRecord]:
    """Find both files of each annotated image by name, whatever their image suffix; no file is opened.

    Args:
        images: the annotated images; their file names may have folders, below those of `folders`.
        folders, names: as in `PairList` and `Source`.
        prefix: put before the pairs' names.
        report: gets a UserError for each pair of which an image is missing, or is another pair's.
    Returns:
        The pairs, in the order of `images`.
    Raises:
        UserError: one of the folders cannot be read.
    """
    for modality in MODALITIES:
        if not folders[modality].is_dir():
            message = f"{folders[modality]}: expected the folder of the {SPELLED[modality]} images, found none"
            report(MissingImage(message))
            return []
    look_up, owners, records = cache(_images_in), {}, []
    for image in images:
        with reported(report):
            paths = {m: _find(folders[m], image.file_name, names[m], m, look_up) for m in MODALITIES}
            _check_owner(owners, paths, image.file_name)
            name, boxes = prefix + _with_suffix(image.file_name, paths["thermal"]), (image.boxes_xyxy, image.labels)
            records.append(
                PairRecord(image.image_id, name, paths["rgb"], paths["thermal"], image.width, image.height, *boxes)
            )
    return records


def without_suffix(file_name: str) -> PurePosixPath:
    """Return the name without its image suffix; another dot in it is no suffix."""
    path = PurePosixPath(file_name)
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def _check_owner(owners: dict[str, str], paths: dict[str, str], annotated: str) -> None:
    """Refuse an image that another annotated name has found: folders are missing, or the rule of names is wrong."""
    for modality, path in paths.items():
        owner = owners.setdefault(path, annotated)
        if owner != annotated:
            raise UserError(
                f"{path}: expected one {SPELLED[modality]} image per pair, found it for {owner} and {annotated}"
            )


def _with_suffix(annotated: str, path: str) -> str:
    """Give the annotated name with the suffix of its image where it has none, as splits go by whole names."""
    return annotated if str(without_suffix(annotated)) != annotated else annotated + Path(path).suffix


def _find(
    folder: Path, annotated: str, rename: Callable[[str], str], modality: str, look_up: Callable[[Path], dict]
) -> str:
    wanted = PurePosixPath(rename(str(without_suffix(annotated))))
    # Some sets name folders of the place where they were made: then the bare name counts.
    below = folder / wanted.parent
    found = look_up(below if below.is_dir() else folder).get(wanted.name, [])
    exact = [path for path in found if Path(path).name == PurePosixPath(annotated).name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    names = ", ".join(Path(path).name for path in found) or "none"
    pattern = f"{wanted.name}{{{','.join(SUFFIXES)}}}"
    raise MissingImage(f"{folder}: expected the {SPELLED[modality]} image {pattern}, found {names}")


def _images_in(folder: Path) -> dict[str, list[str]]:
    """Give {name without suffix: paths} of the images in a folder."""
    try:
        with os.scandir(folder) as entries:
            paths = sorted((entry.name, entry.path) for entry in entries)
    except OSError as error:
        raise UserError(f"{folder}: expected a folder of images, found none to read ({error.strerror})") from error
    images = {}
    for name, path in paths:
        if Path(name).suffix.lower() in SUFFIXES and name[0] != ".":  # macOS leaves ._NAME beside NAME
            images.setdefault(str(without_suffix(name)), []).append(path)
    return images
