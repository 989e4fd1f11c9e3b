"""FLIR-Aligned: aligned RGB-thermal street scenes, 640x512, with the classes person, bike and car.

FLIR ADAS v1 as aligned by Zhang et al. (2020). All forms in circulation are read, recognised by their annotation files:
those of `LAYOUTS` with COCO files, of which each may have lists of day or night alone, and the original `align/` form
with Pascal VOC files (layout 3). Where both forms of layout 1 lie side by side, the two lists are read, since they hold
all pairs and the training list is then cut in blocks of video (splits.py); any other two layouts in one folder are
refused. Boxes were drawn on the thermal image. Differs from the public NAS-DSF code in that thermal has its own mean
and standard deviation, and bicycles count as bikes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from datasets.detection.pairing import without_suffix
from datasets.detection.sources import CHANNELS, ImageList, Source
from datasets.detection.voc_xml import read_names
from utils.errors import UserError

CLASSES = ("person", "bike", "car")
ALIASES = {"bicycle": "bike"}


@dataclass(frozen=True)
class Layout:
    """A way the files lie: `lists` gives the data set's word for each of our lists.

    Args:
        annotations: the path of a list's COCO file, with its {word}.
        subset: "day" or "night", where the lists hold such pairs alone.
    """

    annotations: str
    lists: dict[str, str]
    subset: str = ""

    def files(self) -> dict[str, str]:
        return {origin: self.annotations.format(word) for origin, word in self.lists.items()}

    def image_list(self, folder: Path, origin: str) -> ImageList:
        word = self.lists[origin]
        folders = {m: folder / f"images_{m}_{word}" / "data" for m in CHANNELS}
        for modality in CHANNELS:
            subset_folder = folder / f"images_{modality}_{word}_{self.subset}" / "data"
            if self.subset and subset_folder.is_dir():
                folders[modality] = subset_folder
        return ImageList(folder / self.files()[origin], folders)


TWO_LISTS, THREE_LISTS = "1", "1 in three lists"
IN_TWO, IN_THREE = {"train": "train", "test": "val"}, {"train": "train_train", "val": "train_val", "test": "val"}
LAYOUTS = {
    TWO_LISTS: Layout("images_thermal_{}/flir.json", IN_TWO),
    THREE_LISTS: Layout("images_thermal_{}/flir.json", IN_THREE),
    "2": Layout("meta/thermal/flir_{}.json", {"train": "train", "test": "test"}),
    "1, day": Layout("images_thermal_{}_day/day_flir.json", IN_TWO, "day"),
    "1, night": Layout("images_thermal_{}_night/night_flir.json", IN_TWO, "night"),
    "2, day": Layout("meta/thermal/day_flir_{}.json", {"train": "train", "test": "test"}, "day"),
    "2, night": Layout("meta/thermal/night_flir_{}.json", {"train": "train", "test": "test"}, "night"),
}
ALIGN = {"train": "align_train.txt", "test": "align_validation.txt"}  # layout 3, in the folder or in align/ below it


def locate_flir_aligned(folder: Path, subset: str = "") -> Source:
    """Find out which layout the folder has.

    Args:
        folder: the folder that holds the image folders and annotation files of one layout.
        subset: "day" or "night": the lists with such pairs alone. Without it they are taken where there is no other.
    Returns:
        Where the lists lie: train and test, and val of layout 1 in three lists.
    Raises:
        UserError: the folder has no known layout, or two.
    """
    name = _recognise(folder, subset)
    if name == "3":
        lists = _align_lists(_align_folder(folder))
    else:
        lists = {origin: LAYOUTS[name].image_list(folder, origin) for origin in LAYOUTS[name].lists}
    return Source(
        name=f"flir_aligned_{subset}" if subset else "flir_aligned",
        folder=folder,
        classes=CLASSES,
        aliases=ALIASES,
        lists=lists,
        layout=_remark(folder, name),
        names={"rgb": ("PreviewData", "RGB")},
    )


def _recognise(folder: Path, subset: str) -> str:
    whole = {name: layout.subset for name, layout in LAYOUTS.items() if _is_whole(folder, layout)}
    if all((_align_folder(folder) / file).is_file() for file in ALIGN.values()):
        whole["3"] = ""
    wanted = [name for name, hours in whole.items() if hours == subset] or (list(whole) if not subset else [])
    if {TWO_LISTS, THREE_LISTS} <= set(wanted):
        wanted.remove(THREE_LISTS)
    if not wanted:
        names = [name for name, layout in LAYOUTS.items() if layout.subset == subset] + ([] if subset else ["3"])
        layouts = "; ".join([_in_words(name) for name in names] + ([] if subset else ["day or night lists of 1 or 2"]))
        expected = f"{subset} lists of FLIR-Aligned" if subset else "a known layout of FLIR-Aligned"
        raise UserError(f"{folder}: expected {expected} ({layouts}), found {_found(folder)}")
    if len(wanted) > 1:
        found = " and ".join(_in_words(name) for name in wanted)
        both = {"day", "night"} <= {whole[name] for name in wanted}
        hint = ": pass --dataset flir_aligned_day or flir_aligned_night" if both else ""
        raise UserError(f"{folder}: expected the annotation files of one layout of FLIR-Aligned, found {found}{hint}")
    return wanted[0]


def _is_whole(folder: Path, layout: Layout) -> bool:
    return all((folder / file).is_file() for file in layout.files().values())


def _in_words(name: str) -> str:
    files = ALIGN if name == "3" else LAYOUTS[name].files()
    return f"layout {name}: {', '.join(files.values())}"


def _found(folder: Path) -> str:
    wanted = {file for layout in LAYOUTS.values() for file in layout.files().values()}
    try:
        found = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: expected a FLIR-Aligned folder, found none to read ({error.strerror})") from error
    there = sorted(file for file in wanted | set(ALIGN.values()) if (folder / file).is_file())
    return f"only {', '.join(there)}" if there else ", ".join(found[:6]) or "an empty folder"


def _remark(folder: Path, name: str) -> str:
    beside = name == TWO_LISTS and _is_whole(folder, LAYOUTS[THREE_LISTS])
    return f"{name} (its three lists are there as well and are not read)" if beside else name


def _align_folder(folder: Path) -> Path:
    inner = folder / "align"
    return inner if inner.is_dir() else folder


def _align_lists(folder: Path) -> dict[str, ImageList]:
    lists = {}
    for origin, file in ALIGN.items():
        names = read_names(folder / file, _thermal_name)
        xml_files = {name: folder / "Annotations" / f"{name}.xml" for name in names}
        lists[origin] = ImageList(folder / file, dict.fromkeys(CHANNELS, folder / "JPEGImages"), xml_files)
    return lists


def _thermal_name(listed: str) -> str:
    """Return the name of a listed image; lists have it with or without the part after its number."""
    name = str(without_suffix(listed.removesuffix(".xml")))
    return name if name.endswith("_PreviewData") else f"{name}_PreviewData"
