"""Lists of a detection data set put together: val into the training list, or all of them, to be cut into folds."""

from collections.abc import Sequence
from dataclasses import replace

from datasets.detection.dataset import DetectionRecord
from datasets.detection.detection_data import DetectionData
from datasets.folds import make_folds, outside

NO_TEST_LIST = "no test list"  # in the warning of a data set without one


def merge_lists(data: DetectionData, origins: Sequence[str]) -> DetectionData:
    """Append other lists of the data set, as far as it has them, to its training list.

    Args:
        data: with file names that are in one list only.
        origins: names of lists.
    Returns:
        The data without these lists in `records` and `ground_truth`. The image ids of "train" are then file names,
        since two annotation files may number their images alike; its `info` is that of the training list.
    """
    merged = [origin for origin in origins if origin in data.records]
    if not merged:
        return data
    lists = ("train", *merged)
    names = {origin: {record.image_id: record.file_name for record in data.records[origin]} for origin in lists}
    truth = {origin: data.ground_truth[origin] for origin in lists}
    images = [image | {"id": names[o][image["id"]]} for o in lists for image in truth[o]["images"]]
    annotations = [item | {"image_id": names[o][item["image_id"]]} for o in lists for item in truth[o]["annotations"]]
    numbered = [item | {"id": number} for number, item in enumerate(annotations, 1)]
    records = [replace(record, image_id=record.file_name) for origin in lists for record in data.records[origin]]
    return replace(
        data,
        records={o: r for o, r in data.records.items() if o not in merged} | {"train": records},
        ground_truth={o: t for o, t in data.ground_truth.items() if o not in merged}
        | {"train": truth["train"] | {"images": images, "annotations": numbered}},
    )


def take_fold(data: DetectionData, folds: int, fold: int) -> DetectionData:
    """Merge all lists, and make one fold the test list and the others the training list.

    Args:
        data: with file names that are in one list only.
        folds: how many; see `datasets.folds`.
        fold: which one is tested on, from 1.
    Raises:
        UserError: there are too few records, or all others are neighbours of the fold.
    """
    data = merge_lists(data, [origin for origin in data.records if origin != "train"])
    names = [record.file_name for record in data.records["train"]]
    test = make_folds(names, folds)[fold - 1]
    train, near = outside(names, test)
    remark = (
        f"fold {fold} of {folds}: {len(test)} {data.unit} are the test list; not learned from: {len(near)} neighbours"
    )
    lists = {"train": train, "test": test}
    return replace(
        data,
        records={origin: _records_named(data.records["train"], names) for origin, names in lists.items()},
        ground_truth={origin: _truth_of(data, names) for origin, names in lists.items()},
        warnings=(*(warning for warning in data.warnings if NO_TEST_LIST not in warning), remark),
        fold=(fold, folds),
    )


def _records_named(records: list[DetectionRecord], names: list[str]) -> list[DetectionRecord]:
    by_name = {record.file_name: record for record in records}
    return [by_name[name] for name in names]


def _truth_of(data: DetectionData, names: list[str]) -> dict:
    """Return the images of these names, with their annotations, from the ground truth of "train"."""
    ids, truth = (
        {record.image_id for record in _records_named(data.records["train"], names)},
        data.ground_truth["train"],
    )
    images = [image for image in truth["images"] if image["id"] in ids]
    return truth | {"images": images, "annotations": [a for a in truth["annotations"] if a["image_id"] in ids]}
