"""Where the files of a data set lie: its lists, and by name the image of each modality of a record.

A data set file (`flir_aligned.py`, `voc_coco.py`, ...) gives a `Source`. Image suffixes are not compared, since they
differ between modalities and from the annotations. No file is opened.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

from datasets.detection.annotations import FILE_NAME, is_file_name
from datasets.detection.dataset import DetectionRecord
from datasets.detection.transforms import Normalization
from datasets.images import SUFFIXES, Counts
from utils.errors import Report, UserError, reported, short
from utils.untrusted import names_in

HERE = PurePosixPath()
CHANNELS = {"rgb": 3, "thermal": 1}  # of the images of each modality that networks read


@dataclass(frozen=True)
class ImageList:
    """Where the files of one list lie.

    Attributes:
        annotations: the COCO file, or the file or folder that names the images of a Pascal VOC list.
        folders: of the images, by modality; modalities may share one.
        xml_files: by the image's name without suffix, where the annotations are Pascal VOC.
    """

    annotations: Path
    folders: dict[str, Path]
    xml_files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where the files of a data set lie, and which modalities it has.

    Attributes:
        name: as `--dataset` has it.
        classes: names of the class channels, in order; none: those of the training list's COCO file.
        aliases: other names of classes in the files.
        lists: "train", and "val" and "test" where the data set has them.
        layout: which of the known forms was found, in words.
        channels: of the images of each modality: 3 in colours, 1 in grey.
        annotated: the modality whose image names the annotations have; None: the only one.
        names: by modality, (old, new): `old` in the annotated name is `new` in the image's, both with folders and
            without suffix; modalities that are not in it have the annotated name.
        normalization: (mean of 3, standard deviation of 3) in 0..1 of modalities that have their own.
        thermal_counts: 16-bit values that become black and white, see `images.read_thermal`.
        names_repeat: lists may use one name for different images, which are then distinguished by their list.
        first_pixel: in Pascal VOC files, the number of the leftmost and uppermost pixel: 0, or 1 as in VOC's own.
        ignore_difficult: "difficult" objects of Pascal VOC files are treated as crowds.
        searched_on_all: the published search took weights and logits from the training and test lists together.
    """

    name: str
    folder: Path
    classes: tuple[str, ...]
    aliases: dict[str, str]
    lists: dict[str, ImageList]
    layout: str
    channels: dict[str, int] = field(default_factory=lambda: dict(CHANNELS))
    annotated: str | None = "thermal"
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    normalization: Normalization = field(default_factory=dict)
    thermal_counts: Counts | None = None
    names_repeat: bool = False
    first_pixel: int = 0
    ignore_difficult: bool = False
    searched_on_all: bool = False

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities; the annotated one is first."""
        return tuple(sorted(self.channels, key=lambda modality: modality != self.annotated))

    def image_name(self, modality: str, annotated: str) -> str:
        """Return the name of the image of a modality from the annotated name."""
        return annotated.replace(*self.names[modality]) if modality in self.names else annotated

    def prefix(self, origin: str) -> str:
        """Return what is put before the names of a list."""
        return f"{origin}/" if self.names_repeat else ""


class MissingImage(UserError):
    """An image, or a folder of images, that is not there."""


def spelled(modality: str) -> str:
    """Return the name of a modality as messages have it."""
    return {"rgb": "RGB"}.get(modality, modality)


def find_lists(folders: list[Path]) -> dict[str, Path]:
    """Find the COCO files of the lists by the words train, val and test in their names.

    Args:
        folders: where to look; what is below them is not. A name with two of the words is passed over.
    Returns:
        The files that exist, by list. Where there is no test list, val is the test list.
    Raises:
        UserError: two files are named alike.
    """
    lists = {}
    for path in [path for folder in folders for path in sorted(folder.glob("*.json"))]:
        words = {"train", "val", "test"} & set(re.split(r"[^a-z]+", path.stem.lower()))
        if len(words) == 1:  # train_val.json holds two lists
            (origin,) = words
            if origin in lists:
                raise UserError(f"{path}: expected one list of {origin} images, found {lists[origin]} as well")
            lists[origin] = path
    if "val" in lists and "test" not in lists:
        lists["test"] = lists.pop("val")
    return lists


def image_names(folder: Path) -> list[str]:
    """Return the names, without suffix, of the images in a folder, at least one."""
    if names := sorted(images_in(folder)):
        return names
    raise UserError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none")


def find_images(source: Source, origin: str, images: list[DetectionRecord], report: Report) -> list[DetectionRecord]:
    """Find the files of each annotated image by name.

    Args:
        source: says where they lie, and how they are named.
        origin: the name of the list.
        images: the annotated images of the list; their file names may have folders, below those of the list.
        report: gets a UserError for each image of which a file is missing, or belongs to another one.
    Returns:
        The records, in the order of `images`.
    Raises:
        UserError: one of the folders cannot be read.
    """
    folders = source.lists[origin].folders
    missing = [modality for modality in source.modalities if not os.path.isdir(folders[modality])]
    for modality in missing:
        report(MissingImage(f"{folders[modality]}: expected the folder of the {spelled(modality)} images, found none"))
    if missing:
        return []
    look_up, claimed, records = cache(_images_below), {}, []
    for image in images:
        with reported(report):
            found = {m: _find(source, m, folders[m], image.file_name, look_up) for m in source.modalities}
            _check_paths(claimed, found, image.file_name)
            # Splits use whole names, so a name without suffix gets that of its image.
            bare = _stem(image.file_name) == image.file_name
            suffix = Path(found[source.modalities[0]]).suffix if bare else ""
            file_name = source.prefix(origin) + image.file_name + suffix
            records.append(replace(image, file_name=file_name, paths={m: found[m] for m in source.channels}))
    return records


def without_suffix(file_name: str) -> PurePosixPath:
    """Return the name without its image suffix; another dot in it is no suffix."""
    path = PurePosixPath(file_name)
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def _stem(file_name: str) -> str:
    """Return `without_suffix` as text, quickly for a name in no folder."""
    if "/" in file_name:
        return str(without_suffix(file_name))
    stem, suffix = os.path.splitext(file_name)
    return stem if suffix.lower() in SUFFIXES else file_name


def _check_paths(claimed: dict[str, str], paths: dict[str, str], annotated: str) -> None:
    """Refuse one image in two modalities or two records: folders are missing, or the rule of names is wrong."""
    if len(set(paths.values())) < len(paths):
        same = [modality for modality, path in paths.items() if list(paths.values()).count(path) > 1][::-1]
        found = " and as ".join(spelled(modality) for modality in same)
        expected = f"{len(paths)} images of {annotated}, found this one as {found}"
        hint = "which part of the name tells them apart (names in the YAML)?"
        raise UserError(f"{paths[same[0]]}: expected {expected}: {hint}")
    for modality, path in paths.items():
        owner = claimed.setdefault(path, annotated)
        if owner != annotated:
            unit = "pair" if len(paths) > 1 else "annotated image"
            expected = f"one {spelled(modality)} image per {unit}"
            raise UserError(f"{path}: expected {expected}, found it for {owner} and {annotated}")


def _find(source: Source, modality: str, folder: Path, annotated: str, look_up: Callable[..., dict]) -> str:
    name = source.image_name(modality, _stem(annotated))
    if not is_file_name(name):  # as the rule of names made it
        raise UserError(f"{annotated}: expected {FILE_NAME}, of its {spelled(modality)} image, found {short(name)}")
    wanted = PurePosixPath(name)
    parent, last = (wanted.parent, wanted.name) if "/" in name else (HERE, name)
    found = look_up(folder, parent).get(last, [])
    if len(found) == 1:
        return found[0]
    exact = [path for path in found if Path(path).name == PurePosixPath(annotated).name]
    if len(exact) == 1:
        return exact[0]
    names = ", ".join(Path(path).name for path in found[:5]) or "none"
    pattern = f"{wanted}{{{','.join(SUFFIXES)}}}"
    raise MissingImage(f"{folder}: expected the {spelled(modality)} image {pattern} of {annotated}, found {names}")


def _images_below(folder: Path, inner: PurePosixPath) -> dict[str, list[str]]:
    """Return the images of an inner folder, or of the folder itself: some sets name folders that do not exist."""
    below = folder / inner
    return images_in(below if os.path.isdir(below) else folder)


def images_in(folder: Path) -> dict[str, list[str]]:
    """Return {name without suffix: paths} of the images in a folder."""
    images = {}
    for name in names_in(folder, "a folder of images"):
        stem = _stem(name)
        if stem != name and name[0] != ".":  # macOS leaves ._NAME beside NAME
            images.setdefault(stem, []).append(os.path.join(folder, name))
    return images
