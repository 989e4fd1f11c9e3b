"""FLIR-Aligned: aligned RGB-thermal street scenes, 640x512, with the classes person, bike and car.

FLIR ADAS v1 as aligned by Zhang et al. (2020). All forms in circulation are read, recognised by their annotation files:
those of `LAYOUTS` with COCO files, of which each may have lists of day or night alone, and the original `align/` form
with Pascal VOC files (layout 3). Where both forms of layout 1 lie side by side, the two lists are read, since they hold
all pairs and the training list is then cut in blocks of video (splits.py); any other two layouts in one folder are
refused. Boxes were drawn on the thermal image. Differs from the public NAS-DSF code in that thermal has its own mean
and standard deviation, and bicycles count as bikes.
"""

from dataclasses import dataclass
from pathlib import Path

from datasets.detection.sources import CHANNELS, ImageList, Source, without_suffix
from datasets.detection.voc_xml import read_names
from utils.errors import UserError
from utils.untrusted import names_in

CLASSES = ("person", "bike", "car")
ALIASES = {"bicycle": "bike"}


@dataclass(frozen=True)
class Layout:
    """A way the files lie: `lists` gives the data set's word for each of our lists.

    Args:
        annotations: the path of a list's file, with its {word}: COCO, or names of images with Pascal VOC files.
        subset: "day" or "night", where the lists hold such pairs alone.
        below: the folder that all of it may lie in.
    """

    annotations: str
    lists: dict[str, str]
    subset: str = ""
    below: str = ""

    def files(self) -> dict[str, str]:
        return {origin: self.annotations.format(word) for origin, word in self.lists.items()}

    def base(self, folder: Path) -> Path:
        return folder / self.below if (folder / self.below).is_dir() else folder

    def is_whole(self, folder: Path) -> bool:
        return all((self.base(folder) / file).is_file() for file in self.files().values())

    def image_list(self, folder: Path, origin: str) -> ImageList:
        word, path = self.lists[origin], self.base(folder) / self.files()[origin]
        if path.suffix == ".txt":
            files = {name: path.parent / "Annotations" / f"{name}.xml" for name in read_names(path, _thermal_name)}
            return ImageList(path, dict.fromkeys(CHANNELS, path.parent / "JPEGImages"), files)
        folders = {m: folder / f"images_{m}_{word}" / "data" for m in CHANNELS}
        for modality in CHANNELS:
            subset_folder = folder / f"images_{modality}_{word}_{self.subset}" / "data"
            if self.subset and subset_folder.is_dir():
                folders[modality] = subset_folder
        return ImageList(path, folders)


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
    "3": Layout("align_{}.txt", {"train": "train", "test": "validation"}, below="align"),
}


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
    layout = LAYOUTS[name]
    has_three_lists = name == TWO_LISTS and LAYOUTS[THREE_LISTS].is_whole(folder)
    return Source(
        name=f"flir_aligned_{subset}" if subset else "flir_aligned",
        folder=folder,
        classes=CLASSES,
        aliases=ALIASES,
        lists={origin: layout.image_list(folder, origin) for origin in layout.lists},
        layout=f"{name} (its three lists are there as well and are not read)" if has_three_lists else name,
        names={"rgb": ("PreviewData", "RGB")},
    )


def _recognise(folder: Path, subset: str) -> str:
    whole = {name: layout.subset for name, layout in LAYOUTS.items() if layout.is_whole(folder)}
    wanted = [name for name, hours in whole.items() if hours == subset] or (list(whole) if not subset else [])
    if {TWO_LISTS, THREE_LISTS} <= set(wanted):
        wanted.remove(THREE_LISTS)
    if not wanted:
        names = [_in_words(name) for name, layout in LAYOUTS.items() if layout.subset == subset]
        layouts = "; ".join(names + ([] if subset else ["day or night lists of 1 or 2"]))
        expected = f"{subset} lists of FLIR-Aligned" if subset else "a known layout of FLIR-Aligned"
        raise UserError(f"{folder}: expected {expected} ({layouts}), found {_found(folder)}")
    if len(wanted) > 1:
        found = " and ".join(_in_words(name) for name in wanted)
        both = {"day", "night"} <= {whole[name] for name in wanted}
        hint = ": pass --dataset flir_aligned_day or flir_aligned_night" if both else ""
        raise UserError(f"{folder}: expected the annotation files of one layout of FLIR-Aligned, found {found}{hint}")
    return wanted[0]


def _in_words(name: str) -> str:
    return f"layout {name}: {', '.join(LAYOUTS[name].files().values())}"


def _found(folder: Path) -> str:
    wanted = {file for layout in LAYOUTS.values() for file in layout.files().values()}
    found = names_in(folder, "a FLIR-Aligned folder")
    there = sorted(file for file in wanted if (folder / file).is_file())
    return f"only {', '.join(there)}" if there else ", ".join(found[:6]) or "an empty folder"


def _thermal_name(listed: str) -> str:
    """Return the name of a listed image; lists have it with or without the part after its number."""
    name = str(without_suffix(listed.removesuffix(".xml")))
    return name if name.endswith("_PreviewData") else f"{name}_PreviewData"
