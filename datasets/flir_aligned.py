"""FLIR-Aligned: aligned RGB-thermal street scenes, 640x512, with the classes person, bike and car.

FLIR ADAS v1 as aligned by Zhang et al. (2020). Of the layouts in circulation this reads those in `LAYOUTS`, recognised
by their annotation files: two with COCO files, of which the first also comes in three lists. Where both forms of it lie
side by side, the two lists are read, since they hold all pairs and the training list is then cut in blocks of video
(splits.py); any other two layouts in one folder are refused. Boxes were drawn on the thermal image. Differs from the
public NAS-DSF code in that thermal has its own mean and standard deviation, and bicycles count as bikes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from datasets.coco_json import ParsedAnnotations, parse_coco
from datasets.paired_detection import PairedData, PairRecord, pair_images
from utils.errors import UserError

CLASSES = ["person", "bike", "car"]
ALIASES = {"bicycle": "bike"}
# Paper's public code: the RGB values for both; here: thermal has its own, because the encoders were trained with those.
NORMALIZATION = {
    "rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "thermal": ((0.519, 0.519, 0.519), (0.225, 0.225, 0.225)),
}


@dataclass(frozen=True)
class Layout:
    """A way the files lie: `lists` gives the data set's word for each of our lists, `annotations` the path with a word.

    The images of a list lie in images_{rgb,thermal}_WORD/data/.
    """

    annotations: str
    lists: dict[str, str]

    def files(self) -> dict[str, str]:
        return {origin: self.annotations.format(word) for origin, word in self.lists.items()}


TWO_LISTS, THREE_LISTS = "1", "1 in three lists"
LAYOUTS = {
    TWO_LISTS: Layout("images_thermal_{}/flir.json", {"train": "train", "test": "val"}),
    THREE_LISTS: Layout("images_thermal_{}/flir.json", {"train": "train_train", "val": "train_val", "test": "val"}),
    "2": Layout("meta/thermal/flir_{}.json", {"train": "train", "test": "test"}),
}


def open_flir_aligned(folder: str | Path) -> PairedData:
    """Index the data set; images are only looked up, nothing is written.

    Args:
        folder: the folder that holds the image folders and annotation files of one of `LAYOUTS`.
    Returns:
        The training and test pairs, and "val" of layout 1 in three lists; the notes of "train" name the layout.
    Raises:
        UserError: the folder has another layout or two, a file is missing or wrong, or the lists number classes
            differently.
    """
    folder = Path(folder)
    name = _recognise(folder)
    layout = LAYOUTS[name]
    parsed = {origin: parse_coco(folder / file, CLASSES, ALIASES) for origin, file in layout.files().items()}
    _check_same_categories(folder, layout, parsed)
    notes = {origin: annotations.notes for origin, annotations in parsed.items()}
    return PairedData(
        name="flir_aligned",
        classes=list(CLASSES),
        category_ids=parsed["train"].category_ids,
        records={origin: _pair(folder, word, parsed[origin]) for origin, word in layout.lists.items()},
        ground_truth={origin: annotations.ground_truth for origin, annotations in parsed.items()},
        notes=notes | {"train": {"layout": _remark(folder, name)} | notes["train"]},
        normalization=NORMALIZATION,
    )


def _recognise(folder: Path) -> str:
    whole = [name for name, layout in LAYOUTS.items() if _is_whole(folder, layout)]
    if {TWO_LISTS, THREE_LISTS} <= set(whole):
        whole.remove(THREE_LISTS)
    if not whole:
        known = "; ".join(_in_words(name) for name in LAYOUTS)
        raise UserError(f"{folder}: expected a known layout of FLIR-Aligned ({known}), found {_found(folder)}")
    if len(whole) > 1:
        found = " and ".join(_in_words(name) for name in whole)
        raise UserError(f"{folder}: expected the annotation files of one layout of FLIR-Aligned, found {found}")
    return whole[0]


def _is_whole(folder: Path, layout: Layout) -> bool:
    return all((folder / file).is_file() for file in layout.files().values())


def _in_words(name: str) -> str:
    return f"layout {name}: {', '.join(LAYOUTS[name].files().values())}"


def _found(folder: Path) -> str:
    wanted = {file for layout in LAYOUTS.values() for file in layout.files().values()}
    try:
        found = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: expected a FLIR-Aligned folder, found none to read ({error.strerror})") from error
    there = sorted(file for file in wanted if (folder / file).is_file())
    return f"only {', '.join(there)}" if there else ", ".join(found[:6]) or "an empty folder"


def _remark(folder: Path, name: str) -> str:
    beside = name == TWO_LISTS and _is_whole(folder, LAYOUTS[THREE_LISTS])
    return f"{name} (its three lists are there as well and are not read)" if beside else name


def _check_same_categories(folder: Path, layout: Layout, parsed: dict[str, ParsedAnnotations]) -> None:
    files = layout.files()
    train = parsed["train"].category_ids
    for origin, annotations in parsed.items():
        if annotations.category_ids != train:
            expected, found = (dict(zip(CLASSES, ids)) for ids in (train, annotations.category_ids))
            wanted = f"expected the ids of {files['train']}, {expected}"
            raise UserError(f"{folder / files[origin]}: categories: {wanted}, found {found}")


def _pair(folder: Path, word: str, annotations: ParsedAnnotations) -> list[PairRecord]:
    return pair_images(
        annotations.images,
        folder / f"images_rgb_{word}" / "data",
        folder / f"images_thermal_{word}" / "data",
        lambda stem: stem.replace("PreviewData", "RGB"),
    )
