"""Where the files of a data set lie, and opening it: one reader for all of them.

A data set file (`flir_aligned.py`, `llvip.py`, ...) only looks which files are there and gives a `Source`; annotations
are read here, and images looked up (pairing.py). Nothing is written, no image is opened.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from datasets.detection.annotations import ParsedAnnotations
from datasets.detection.coco_json import parse_coco
from datasets.detection.paired_detection import Normalization, PairedData
from datasets.detection.pairing import MODALITIES, pair_images, same_name
from datasets.detection.voc_xml import parse_voc
from datasets.images import Counts
from utils.errors import Report, UserError, near, refuse, reported

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FLIR_THERMAL = ((0.519, 0.519, 0.519), (0.225, 0.225, 0.225))
NORMALIZATION = {"rgb": IMAGENET, "thermal": FLIR_THERMAL}  # where a data set does not name its own


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
    _check_boxes(source, parsed["train"], report)
    _check_categories(source, parsed, report)
    records = {}
    for origin, one in source.lists.items():
        prefix = f"{origin}/" if source.names_repeat else ""
        records[origin] = pair_images(parsed[origin].images, one.folders, source.names, prefix, report)
    notes = {origin: annotations.notes for origin, annotations in parsed.items()}
    warnings = [remark for annotations in parsed.values() for remark in annotations.warnings]
    if absent := _never_seen(source, parsed["train"]):
        warnings.append(f"{source.lists['train'].annotations}: no box of {', '.join(absent)}")
    return PairedData(
        name=source.name,
        classes=list(source.classes),
        category_ids=parsed["train"].category_ids,
        records=records,
        ground_truth={origin: annotations.ground_truth for origin, annotations in parsed.items()},
        notes=notes | {"train": {"layout": source.layout} | notes["train"]},
        normalization=source.normalization,
        thermal_counts=source.thermal_counts,
        warnings=tuple(warnings),
    )


def _parse(source: Source, one: PairList, report: Report) -> ParsedAnnotations:
    classes = list(source.classes)
    if one.xml_files:
        return parse_voc(one.xml_files, classes, source.aliases, report)
    return parse_coco(one.annotations, classes, source.aliases, report)


def _nothing(source: Source) -> ParsedAnnotations:
    truth = {"info": {}, "images": [], "annotations": [], "categories": []}
    return ParsedAnnotations([], list(range(1, len(source.classes) + 1)), truth, {"images": 0, "boxes": 0})


def _check_boxes(source: Source, train: ParsedAnnotations, report: Report) -> None:
    """Refuse a training list without boxes, or without those of a class that its files seem to spell differently."""
    file = source.lists["train"].annotations
    missing = _never_seen(source, train)
    dropped = {k.removeprefix("dropped_"): v for k, v in train.notes.items() if k.startswith("dropped_")}
    found = f" (but {', '.join(f'{v} of {k}' for k, v in dropped.items())})" if dropped else ""
    with reported(report):
        if train.images and len(missing) == len(source.classes):
            raise UserError(
                f"{file}: annotations: expected at least one box of {', '.join(missing)} to train on, found none{found}"
            )
        for name in missing:
            if meant := near(name, dropped):
                raise UserError(f"{file}: annotations: expected boxes of {name}, found none{found}{meant}")


def _never_seen(source: Source, train: ParsedAnnotations) -> list[str]:
    seen = {int(label) for image in train.images for label in image.labels}
    return [name for channel, name in enumerate(source.classes) if channel not in seen]


def _check_categories(source: Source, parsed: dict[str, ParsedAnnotations], report: Report) -> None:
    """Refuse lists that number classes differently."""
    train, file = parsed["train"], source.lists["train"].annotations
    for origin, annotations in parsed.items():
        with reported(report):
            if annotations.images and train.images and annotations.category_ids != train.category_ids:
                expected, found = (dict(zip(source.classes, p.category_ids)) for p in (train, annotations))
                raise UserError(
                    f"{source.lists[origin].annotations}: categories: expected the ids of {file}, {expected}, "
                    f"found {found}"
                )
