"""Finding files by name: the lists of a data set, and the two images of each pair.

Image suffixes do not count, since they differ between modalities and from what annotations say. Nothing is opened.
"""

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

from datasets.detection.annotations import FILE_NAME, AnnotatedImage, is_file_name
from datasets.detection.paired_detection import PairRecord
from datasets.images import SUFFIXES
from utils.errors import Report, UserError, refuse, reported, short

MODALITIES = ("thermal", "rgb")
SPELLED = {"thermal": "thermal", "rgb": "RGB"}


class MissingImage(UserError):
    """An image, or a folder of images, that is not there."""


def same_name(name: str) -> str:
    """Return the name of the other image where both have one."""
    return name


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
    names = sorted(images_in(folder))
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
    """Find both files of each annotated image by name.

    Args:
        images: the annotated images; their file names may have folders, below those of `folders`.
        folders, names: as in `sources.PairList` and `sources.Source`.
        prefix: put before the pairs' names.
        report: gets a UserError for each pair of which an image is missing, or is another pair's.
    Returns:
        The pairs, in the order of `images`.
    Raises:
        UserError: one of the folders cannot be read.
    """
    missing = [modality for modality in MODALITIES if not is_folder(folders[modality])]
    for modality in missing:
        report(MissingImage(f"{folders[modality]}: expected the folder of the {SPELLED[modality]} images, found none"))
    if missing:
        return []
    look_up, stateful, records = cache(_images_below), {}, []
    for image in images:
        with reported(report):
            paths = {m: _find(folders[m], image.file_name, names[m], m, look_up) for m in MODALITIES}
            _check_paths(stateful, paths, image.file_name)
            name, boxes = prefix + _with_suffix(image.file_name, paths["thermal"]), (image.boxes_xyxy, image.labels)
            records.append(
                PairRecord(image.image_id, name, paths["rgb"], paths["thermal"], image.width, image.height, *boxes)
            )
    return records


def is_folder(path: Path) -> bool:
    """Tell whether a folder is there; names that no file can have, or folders that are closed to us, are none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def without_suffix(file_name: str) -> PurePosixPath:
    """Return the name without its image suffix; another dot in it is no suffix."""
    path = PurePosixPath(file_name)
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def _check_paths(stateful: dict[str, str], paths: dict[str, str], annotated: str) -> None:
    """Refuse one image as both of a pair, or in two pairs: folders are missing, or the rule of names is wrong."""
    if paths["rgb"] == paths["thermal"]:
        raise UserError(
            f"{paths['rgb']}: expected two images of {annotated}, found this one as RGB and as thermal: "
            "which part of the name tells them apart (names in the YAML)?"
        )
    for modality, path in paths.items():
        owner = stateful.setdefault(path, annotated)
        if owner != annotated:
            raise UserError(
                f"{path}: expected one {SPELLED[modality]} image per pair, found it for {owner} and {annotated}"
            )


def _with_suffix(annotated: str, path: str) -> str:
    """Give the annotated name with the suffix of its image where it has none, as splits go by whole names."""
    return annotated if str(without_suffix(annotated)) != annotated else annotated + Path(path).suffix


def _find(
    folder: Path, annotated: str, rename: Callable[[str], str], modality: str, look_up: Callable[..., dict]
) -> str:
    name = rename(str(without_suffix(annotated)))
    if not is_file_name(name):  # as the rule of names made it
        raise UserError(f"{annotated}: expected {FILE_NAME}, of its {SPELLED[modality]} image, found {short(name)}")
    wanted = PurePosixPath(name)
    found = look_up(folder, wanted.parent).get(wanted.name, [])
    exact = [path for path in found if Path(path).name == PurePosixPath(annotated).name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    names = ", ".join(Path(path).name for path in found[:5]) or "none"
    pattern = f"{wanted}{{{','.join(SUFFIXES)}}}"
    raise MissingImage(f"{folder}: expected the {SPELLED[modality]} image {pattern} of {annotated}, found {names}")


def _images_below(folder: Path, inner: PurePosixPath) -> dict[str, list[str]]:
    """Give the images of an inner folder, or of the folder itself: some sets name folders of where they were made."""
    below = folder / inner
    return images_in(below if is_folder(below) else folder)


def images_in(folder: Path) -> dict[str, list[str]]:
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
