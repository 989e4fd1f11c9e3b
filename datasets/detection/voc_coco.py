"""Folders of single RGB images in the two common forms: Pascal VOC (Everingham et al. 2010) and COCO (Lin et al. 2014).

The classes are those that the files name. Where there is no test list, val is tested on. Two published sets have names
of their own: VOC2012 and COCO 2017. Their folders may lie deeper. Their lists are train, and val, which is tested on.
"""

from contextlib import suppress
from pathlib import Path

from datasets.detection.sources import ImageList, Source, find_lists, image_names
from datasets.detection.voc_xml import read_names, read_root
from utils.errors import UserError

CHANNELS = {"rgb": 3}
ORIGINS = ("train", "val", "test")
XML, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
# Of VOC2012, in the order of its authors.
VOC_CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable")
VOC_CLASSES += ("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
VOC_FOLDERS = ("", "VOC2012", "voc/VOC2012", "VOCdevkit/VOC2012")  # below the data folder; as the archive unpacks last
COCO_FOLDERS = ("", "coco")
COCO_2017 = "annotations/instances_{}2017.json"


def locate_voc(folder: Path) -> Source:
    """Find the lists of a Pascal VOC folder.

    Args:
        folder: the one that holds Annotations/ and JPEGImages/; ImageSets/Main/ has the lists train.txt, val.txt and
            test.txt. Without lists all images are the training list.
    Raises:
        UserError: the folder is not laid out so.
    """
    _check_voc(folder)
    files = {o: folder / LISTS / f"{o}.txt" for o in ORIGINS if (folder / LISTS / f"{o}.txt").is_file()}
    if files and "train" not in files:
        found = ", ".join(path.name for path in files.values())
        raise UserError(f"{folder / LISTS}: expected train.txt, found {found}")
    if "val" in files and "test" not in files:
        files["test"] = files.pop("val")
    lists = {origin: _voc_list(folder, path, read_names(path)) for origin, path in files.items()}
    lists = lists or {"train": _voc_list(folder, folder / IMAGES, image_names(folder / IMAGES))}
    classes = _voc_classes([path for image_list in lists.values() for path in image_list.xml_files.values()])
    if not classes:
        raise UserError(f"{folder / XML}: expected objects with names, found none")
    return Source("voc", folder, classes, {}, lists, f"Pascal VOC, {_in_words(files)}", CHANNELS, "rgb")


def locate_coco(folder: Path) -> Source:
    """Find the lists of a COCO folder.

    Args:
        folder: its annotations/ holds `*train*.json` and perhaps `*val*.json` and `*test*.json`. The images of
            `instances_train2017.json` lie in train2017/ or images/train2017/, else in images/.
    Raises:
        UserError: the folder is not laid out so.
    """
    files = find_lists([folder / "annotations"])
    if "train" not in files:
        found = ", ".join(path.name for path in files.values()) or "none"
        raise UserError(f"{folder / 'annotations'}: expected COCO files *train*.json, found {found}")
    lists = {origin: ImageList(path, {"rgb": _coco_images(folder, path)}) for origin, path in files.items()}
    return Source("coco", folder, (), {}, lists, f"COCO JSON, {_in_words(files)}", CHANNELS, "rgb")


def locate_voc2012(folder: Path) -> Source:
    """Find the lists of VOC2012: corners count from 1, and "difficult" objects are ignored.

    Args:
        folder: holds Annotations/, ImageSets/Main/ and JPEGImages/, in one of `VOC_FOLDERS`.
    Raises:
        UserError: the folder is not laid out so.
    """
    folder = next((folder / below for below in VOC_FOLDERS if (folder / below / XML).is_dir()), folder)
    _check_voc(folder)
    files = {"train": folder / LISTS / "train.txt", "test": folder / LISTS / "val.txt"}
    lists = {origin: _voc_list(folder, path, read_names(path)) for origin, path in files.items()}
    form = {"first_pixel": 1, "ignore_difficult": True, "searched_on_all": True}
    return Source("voc2012", folder, VOC_CLASSES, {}, lists, f"VOC2012, {_in_words(files)}", CHANNELS, "rgb", **form)


def locate_coco2017(folder: Path) -> Source:
    """Find the lists of COCO 2017; its other annotation files (keypoints, captions) are passed over.

    Args:
        folder: holds annotations/, and train2017/ and val2017/ or images/ with these, itself or in coco/.
    Raises:
        UserError: the folder is not laid out so.
    """
    folder = next((folder / below for below in COCO_FOLDERS if (folder / below / "annotations").is_dir()), folder)
    files = {"train": folder / COCO_2017.format("train"), "test": folder / COCO_2017.format("val")}
    if missing := [path.name for path in files.values() if not path.is_file()]:
        raise UserError(f"{folder / 'annotations'}: expected instances_{{train,val}}2017.json, found no {missing[0]}")
    lists = {origin: ImageList(path, {"rgb": _coco_images(folder, path)}) for origin, path in files.items()}
    return Source("coco2017", folder, (), {}, lists, f"COCO JSON, {_in_words(files)}", CHANNELS, "rgb")


def _check_voc(folder: Path) -> None:
    if missing := [name for name in (XML, IMAGES) if not (folder / name).is_dir()]:
        raise UserError(f"{folder}: expected the folders {XML} and {IMAGES} of Pascal VOC, found no {missing[0]}")


def _voc_list(folder: Path, path: Path, names: list[str]) -> ImageList:
    return ImageList(path, {"rgb": folder / IMAGES}, {name: folder / XML / f"{name}.xml" for name in names})


def _voc_classes(paths: list[Path]) -> tuple[str, ...]:
    """Return the names of all objects, sorted. Files that cannot be read are reported when the data set is opened."""
    names: set[str] = set()
    for path in paths:
        with suppress(UserError):
            names |= {(item.findtext("name") or "").strip() for item in read_root(path).iter("object")}
    return tuple(sorted(names - {""}))


def _coco_images(folder: Path, annotations: Path) -> Path:
    """Return the image folder of an annotation file: that of its last word, else the common one."""
    word = annotations.stem.rpartition("_")[2]
    for path in (folder / word, folder / "images" / word, folder / "images"):
        if path.is_dir():
            return path
    raise UserError(f"{folder}: expected the images of {annotations.name} in {word} or images, found neither")


def _in_words(files: dict[str, Path]) -> str:
    return ", ".join(f"{origin} {path.name}" for origin, path in files.items()) or "all images are the training list"
