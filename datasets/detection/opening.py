"""Opening a data set: one reader for all of them, and the data module over it.

Annotations are read here, and images are looked up by name (sources.py). Nothing is written, no image is opened.
"""

import contextlib
import gc
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from operator import attrgetter
from pathlib import Path
from typing import Any

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.annotations import ParsedAnnotations
from datasets.detection.coco_json import parse_coco
from datasets.detection.detection_data import DetectionData, ImageOptions
from datasets.detection.merging import NO_TEST_LIST, merge_lists, take_fold
from datasets.detection.registry import locate
from datasets.detection.sources import Source, find_images
from datasets.detection.transforms import COLOUR, with_whole_levels
from datasets.detection.voc_xml import parse_voc
from datasets.loader import BadFiles
from datasets.splits import all_in_both_roles, make_split, overfit_split, paper_split
from utils.errors import Report, UserError, near, refuse, reported

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FLIR_THERMAL = ((0.519, 0.519, 0.519), (0.225, 0.225, 0.225))


def open_data(
    folder: str,
    dataset: str,
    images: ImageOptions,
    loading: LoaderOptions,
    split_seed: int = 0,
    paper_protocol: bool = False,
    overfit: int | None = None,
    modalities: Sequence[str] = (),
    folds: int | None = None,
    fold: int | None = None,
    statistics: Statistics | None = None,
) -> DataModule:
    """Open a data set and cut its training list.

    Args:
        folder, dataset: as for `registry.locate`.
        images: how images are prepared.
        loading: how batches are made.
        split_seed: of the cut.
        paper_protocol: cut nothing, and choose on the test list; as published, some sets are searched on all lists.
        overfit: take so many records of the training list for all parts.
        modalities: that the network reads.
        folds: cut all lists into so many folds, for cross-validation.
        fold: the fold that is the test list; the others are the training list.
        statistics: mean and standard deviation that every modality is normalised with; None: those of the data set.
    Raises:
        UserError: the folder is missing or not laid out as the data set, a modality is missing, a record is in two
            lists, or there are too few.
    """
    data = replace(open_data_set(folder, dataset), options=images)
    if statistics:
        data = replace(data, normalization=dict.fromkeys(data.channels, statistics))
    if not set(modalities) <= set(data.channels):
        expected, found = (" and ".join(names) for names in (modalities, data.channels))
        raise UserError(f"{folder}: expected images of {expected}, which the network reads, found only {found}")
    if images.modality_dropout and len(data.channels) == 1:
        raise UserError(f"--modality_dropout: expected two modalities or more, found only {data.modalities[0]}")
    if images.oriented:
        data = replace(data, normalization=with_whole_levels(data.normalization, data.channels))
        loading = replace(loading, group=attrgetter("is_portrait"), sizes=images.short_sides)
    _check_disjoint(folder, data)
    data = merge_lists(data, ("val",)) if paper_protocol else data
    data = take_fold(data, folds, fold) if folds and fold else data
    names = {origin: [r.file_name for r in records] for origin, records in data.records.items()}
    if overfit:
        split = overfit_split([r.file_name for r in data.records["train"] if len(r.labels)], overfit)
    elif paper_protocol:
        if "test" not in names:
            raise UserError(f"--paper-protocol: expected a test list, on which it chooses, found none in {data.name}")
        cut = all_in_both_roles if data.searched_on_all else paper_split
        split = cut(names["train"], names["test"])
    else:
        split = make_split(names["train"], split_seed, own_val=names.get("val"))
    return DataModule(data, split, loading, BadFiles(loading.max_bad_files))


def _check_disjoint(folder: str, data: DetectionData) -> None:
    names = {origin: {r.file_name for r in records} for origin, records in data.records.items()}
    for first, second in combinations(names, 2):
        if shared := sorted(names[first] & names[second]):
            found = f"{len(shared)} {data.unit} in both: {shared[0]}"
            raise UserError(f"{folder}: expected disjoint {first} and {second} lists, found {found}")


def open_data_set(folder: str | Path, dataset: str = "flir_aligned") -> DetectionData:
    """Index a data set; images are only looked up, nothing is written.

    Args:
        folder, dataset: as for `registry.locate`.
    Raises:
        UserError: as `locate`, or a file is missing or wrong: the first fault, and how many more there are.
    """
    faults: list[UserError] = []
    data = open_source(locate(folder, dataset), faults.append)
    if not faults:
        return data
    tool = shlex.join(["python", "-m", "tools.check_data", str(folder), "--dataset", dataset])
    more = f" (and {len(faults) - 1} more: {tool})" if len(faults) > 1 else ""
    raise UserError(f"{faults[0]}{more}") from faults[0]


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's search for cycles: a quarter of the time, where there are millions of objects and no cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def open_source(source: Source, report: Report = refuse) -> DetectionData:
    """Read all lists and find the images of each record.

    Args:
        source: from a data set file.
        report: gets a UserError for each fault; what is faulty is left out. A list that cannot be read at all is empty.
    Returns:
        The data set; the notes of "train" name the layout.
    """
    train = _parse(source, "train", list(source.classes), report)
    classes = list(source.classes) or train.classes
    parsed = {o: train if o == "train" else _parse(source, o, classes, report) for o in source.lists}
    seen = {int(label) for image in train.images for label in image.labels}
    absent = [name for channel, name in enumerate(classes) if channel not in seen]
    _check_boxes(source, train, absent, len(classes), report)
    _check_categories(source, parsed, report)
    records = {origin: find_images(source, origin, parsed[origin].images, report) for origin in source.lists}
    notes = {origin: annotations.notes for origin, annotations in parsed.items()}
    warnings = [warning for annotations in parsed.values() for warning in annotations.warnings]
    if absent:
        warnings.append(f"{source.lists['train'].annotations}: no box of {', '.join(absent)}")
    if "test" not in source.lists:
        cut = "train and arch" if "val" in source.lists else "train, arch and val"
        warnings.append(f"{source.name}: {NO_TEST_LIST}: the training list is cut into {cut}; nothing can be tested on")
    statistics = {m: IMAGENET if count == COLOUR else FLIR_THERMAL for m, count in source.channels.items()}
    return DetectionData(
        name=source.name,
        classes=classes,
        category_ids=train.category_ids,
        records=records,
        ground_truth={origin: annotations.ground_truth for origin, annotations in parsed.items()},
        notes=notes | {"train": {"layout": source.layout, **notes["train"]}},
        channels=dict(source.channels),
        normalization=statistics | source.normalization,
        thermal_counts=source.thermal_counts,
        warnings=tuple(warnings),
        searched_on_all=source.searched_on_all,
    )


def _parse(source: Source, origin: str, classes: list[str], report: Report) -> ParsedAnnotations:
    """Read one list of a source; it is empty where it cannot be read."""
    image_list = source.lists[origin]
    with reported(report):
        if image_list.xml_files:
            form = {"first_pixel": source.first_pixel, "ignore_difficult": source.ignore_difficult}
            return parse_voc(image_list.xml_files, classes, source.aliases, report, **form)
        return parse_coco(image_list.annotations, classes, source.aliases, report)
    truth: dict[str, Any] = {"info": {}, "images": [], "annotations": [], "categories": []}
    return ParsedAnnotations([], list(range(1, len(classes) + 1)), truth, {"images": 0, "boxes": 0})


def _check_boxes(source: Source, train: ParsedAnnotations, absent: list[str], num_classes: int, report: Report) -> None:
    """Refuse a training list without boxes, or without those of a class that its files seem to spell differently."""
    place = f"{source.lists['train'].annotations}: annotations"
    dropped = {k.removeprefix("dropped_"): v for k, v in train.notes.items() if k.startswith("dropped_")}
    found = f" (but {', '.join(f'{v} of {k}' for k, v in dropped.items())})" if dropped else ""
    with reported(report):
        if train.images and len(absent) == num_classes:
            expected = f"at least one box of {', '.join(absent)} to train on"
            raise UserError(f"{place}: expected {expected}, found none{found}")
        for name in absent:
            if meant := near(name, dropped):
                raise UserError(f"{place}: expected boxes of {name}, found none{found}{meant}")


def _check_categories(source: Source, parsed: dict[str, ParsedAnnotations], report: Report) -> None:
    """Refuse lists that number classes differently."""
    train, file = parsed["train"], source.lists["train"].annotations
    for origin, annotations in parsed.items():
        with reported(report):
            if annotations.images and train.images and annotations.category_ids != train.category_ids:
                expected, found = (dict(zip(train.classes, p.category_ids)) for p in (train, annotations))
                place = f"{source.lists[origin].annotations}: categories"
                raise UserError(f"{place}: expected the ids of {file}, {expected}, found {found}")
