"""Facts of the data that a detector was trained on, as its checkpoint has them, and other data made to fit them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from datasets.detection.dataset import DetectionRecord
from datasets.detection.detection_data import DetectionData
from utils.errors import UserError
from utils.untrusted import check_field

SENSORS = ("rgb", "thermal")


def read_facts(data: dict, num_classes: int, sensors: tuple[str, ...], source: str) -> dict[str, Any]:
    """Return classes, normalization and thermal counts as a checkpoint has them; anyone may have written it.

    Args:
        sensors: that the network reads; the data may have had others as well.

    Raises:
        UserError: a field is not what it must be; names it.
    """
    statistics = f"mean and standard deviation, three numbers each, of {' and '.join(sensors)}"
    fields = {
        "classes": (lambda names: _texts(names) and 0 < len(names) <= num_classes, f"1 to {num_classes} names"),
        "thermal_counts": (lambda v: v is None or (_numbers(v, 2) and v[0] < v[1]), "two numbers, dark and bright"),
        "normalization": (lambda value: _is_normalization(value, sensors), statistics),
    }
    data = {"thermal_counts": None} | data
    for name, check in fields.items():
        check_field(data, name, check, source)
    recorded = data["normalization"]
    normalization = {m: tuple(tuple(numbers) for numbers in recorded[m]) for m in SENSORS if m in recorded}
    counts = tuple(data["thermal_counts"]) if data["thermal_counts"] else None
    return {"classes": data["classes"], "normalization": normalization, "thermal_counts": counts}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _is_normalization(value: Any, sensors: tuple[str, ...]) -> bool:
    if not isinstance(value, dict) or not {*sensors} <= {*value}:
        return False
    pairs = [value[sensor] for sensor in SENSORS if sensor in value]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(_numbers(n, 3) for n in pair) for pair in pairs):
        return False
    return min(std[0] for _, std in pairs) > 0


def _numbers(value: Any, count: int) -> bool:
    plain = isinstance(value, list) and len(value) == count
    return plain and all(type(n) in (int, float) and math.isfinite(n) for n in value)


def as_trained(data: DetectionData, classes: Sequence[str], normalization: dict) -> DetectionData:
    """Return another data set as a detector needs it: with its classes, taken by name, and its normalization.

    Boxes of other classes are left out. A class that the set does not label has no box to find, so it is not scored.

    Args:
        data: a set whose class names may be written in other cases.
        classes, normalization: of the detector.
    Raises:
        UserError: the set has none of the classes.
    """
    labelled = {name.lower(): channel for channel, name in enumerate(data.classes)}
    channels = [labelled.get(name.lower()) for name in classes]
    if set(channels) == {None}:
        expected = f"expected a class of {', '.join(classes)}, as the network has"
        raise UserError(f"--eval_dataset {data.name}: {expected}, found only {', '.join(data.classes)}")
    unused = max(data.category_ids) + 1
    ids = [unused + n if c is None else data.category_ids[c] for n, c in enumerate(channels)]
    unlabelled = [name for name, channel in zip(classes, channels) if channel is None]
    names = f"its classes are {', '.join(data.classes)}; a YAML file with aliases gives them other names"
    remark = f"{data.name}: no class named {', '.join(unlabelled)}, so these are not scored ({names})"
    place = {channel: n for n, channel in enumerate(channels) if channel is not None}
    return replace(
        data,
        classes=list(classes),
        category_ids=ids,
        records={origin: [_relabelled(r, place) for r in records] for origin, records in data.records.items()},
        ground_truth={origin: _renamed(truth, dict(zip(ids, classes))) for origin, truth in data.ground_truth.items()},
        normalization=data.normalization | normalization,
        warnings=data.warnings + ((remark,) if unlabelled else ()),
    )


def _relabelled(record: DetectionRecord, place: dict[int, int]) -> DetectionRecord:
    kept = np.isin(record.labels, list(place))
    labels = np.array([place[int(label)] for label in record.labels[kept]], dtype=np.int64)
    return replace(record, boxes_xyxy=record.boxes_xyxy[kept], labels=labels)


def _renamed(truth: dict, names: dict[int, str]) -> dict:
    """Return a ground truth with these categories alone."""
    annotations = [item for item in truth["annotations"] if item["category_id"] in names]
    return truth | {"annotations": annotations, "categories": [{"id": i, "name": n} for i, n in names.items()]}
