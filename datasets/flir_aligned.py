"""FLIR-Aligned: aligned RGB-thermal street scenes, 640x512, with the classes person, bike and car.

FLIR ADAS v1 as aligned by Zhang et al. (2020). Of the layouts in circulation this reads the one with
`meta/thermal/flir_{train,test}.json` and `images_{rgb,thermal}_{train,test}/data/`. Boxes were drawn on the thermal
image. Differs from the public NAS-DSF code in that thermal has its own mean and standard deviation, and bicycles
count as bikes.
"""

import os
from pathlib import Path

from datasets.coco_json import parse_coco
from datasets.paired_detection import PairedData, pair_images
from utils.errors import UserError

CLASSES = ["person", "bike", "car"]
ALIASES = {"bicycle": "bike"}
# Paper's public code: the RGB values for both; here: thermal has its own, because the encoders were trained with those.
NORMALIZATION = {
    "rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "thermal": ((0.519, 0.519, 0.519), (0.225, 0.225, 0.225)),
}
ANNOTATION_FILES = {split: f"meta/thermal/flir_{split}.json" for split in ("train", "test")}


def open_flir_aligned(folder: str | Path) -> PairedData:
    """Index the data set; images are only looked up, nothing is written.

    Args:
        folder: the folder that holds `meta/` and the image folders.
    Returns:
        The training and test pairs.
    Raises:
        UserError: the folder has another layout, a file is missing or wrong, or the two splits number classes
            differently.
    """
    folder = Path(folder)
    _check_layout(folder)
    parsed = {split: parse_coco(folder / name, CLASSES, ALIASES) for split, name in ANNOTATION_FILES.items()}
    _check_same_categories(folder, {split: annotations.category_ids for split, annotations in parsed.items()})
    records = {
        split: pair_images(
            annotations.images,
            folder / f"images_rgb_{split}" / "data",
            folder / f"images_thermal_{split}" / "data",
            lambda stem: stem.replace("PreviewData", "RGB"),
        )
        for split, annotations in parsed.items()
    }
    return PairedData(
        name="flir_aligned",
        classes=list(CLASSES),
        category_ids=parsed["train"].category_ids,
        records=records,
        ground_truth={split: annotations.ground_truth for split, annotations in parsed.items()},
        notes={split: annotations.notes for split, annotations in parsed.items()},
        normalization=NORMALIZATION,
    )


def _check_layout(folder: Path) -> None:
    missing = [name for name in ANNOTATION_FILES.values() if not (folder / name).is_file()]
    if not missing:
        return
    try:
        found = ", ".join(sorted(os.listdir(folder))[:6]) or "an empty folder"
    except OSError as error:
        raise UserError(f"{folder}: expected a FLIR-Aligned folder, found none to read ({error.strerror})") from error
    wanted = f"{' and '.join(missing)}, beside images_{{rgb,thermal}}_{{train,test}}/data/"
    raise UserError(f"{folder}: expected a FLIR-Aligned folder with {wanted}, found {found}")


def _check_same_categories(folder: Path, category_ids: dict[str, list[int]]) -> None:
    if category_ids["train"] != category_ids["test"]:
        train, test = (dict(zip(CLASSES, category_ids[split])) for split in ("train", "test"))
        name = folder / ANNOTATION_FILES["test"]
        raise UserError(f"{name}: categories: expected the ids of {ANNOTATION_FILES['train']}, {train}, found {test}")
