"""The description of an ONNX detector: a small YAML file over what the ONNX file itself says.

FILE.onnx.yaml or FILE.yaml beside FILE.onnx, or --onnx_description. Each field is checked. All fields:
docs/onnx_detectors.md.
"""

import json
from pathlib import Path
from typing import Any

from models.detection.onnx_input import EXTRA_INPUTS, LAYOUTS, RESIZES
from models.detection.onnx_output import ACTIVATIONS, BOX_FORMS, COLUMNS, UNITS
from tasks.detection.onnx_classes import EXPECTED, are_names, names_in_metadata
from tasks.detection.onnx_file import OnnxFile
from utils.errors import UserError, near
from utils.untrusted import (
    FLAG,
    OBJECT,
    Check,
    check_field,
    checked,
    is_int,
    is_list,
    is_name,
    is_number,
    is_object,
    read_yaml,
)

MAX_SIDE = 2**14  # px
EXPORT = "nas_dsf"  # metadata of tools/export.py
SENSORS = ("rgb", "thermal")


def one_of(*words: Any) -> Check:
    return (lambda value: value in words and not isinstance(value, bool), " or ".join(map(str, words)))


def is_side(value: Any) -> bool:
    return is_int(value) and 0 < value <= MAX_SIDE


def is_level(value: Any) -> bool:
    return is_int(value) and 0 <= value <= 255


def is_sensor(value: Any) -> bool:
    return isinstance(value, str) and value in SENSORS


def is_column(value: Any) -> bool:
    return isinstance(value, str) and value in COLUMNS


NAME = (is_name, "a name")
ONE_OR_THREE = (lambda v: is_list(v, is_number) and len(v) in (1, 3), "a list of one or three numbers")
FIELDS: dict[str, Check] = {
    "input": NAME,
    "layout": one_of(*LAYOUTS),
    "channels": one_of("rgb", "bgr"),
    "max_value": one_of(255, 1),
    "mean": ONE_OR_THREE,
    "std": (lambda v: ONE_OR_THREE[0](v) and min(v) > 0, "a list of one or three numbers above 0"),
    "resize": one_of(*RESIZES),
    "size": (lambda v: is_side(v) or is_list(v, is_side, 2), f"pixels or [height, width], 1 to {MAX_SIDE}"),
    "multiple": (is_side, f"a whole number, 1 to {MAX_SIDE}"),
    "fill": (lambda v: is_level(v) or (is_list(v, is_level) and len(v) in (1, 3)), "0..255, or a list of 1 or 3"),
    "extra_inputs": (
        lambda v: is_object(v) and all(isinstance(kind, str) and kind in EXTRA_INPUTS for kind in v.values()),
        f"names of inputs, each with {' or '.join(EXTRA_INPUTS)}",
    ),
    **dict.fromkeys(("boxes", "scores", "labels", "count", "detections"), NAME),
    "columns": (
        lambda v: is_list(v, is_column) and 0 < len({*v} - {"other"}) == len([c for c in v if c != "other"]),
        f"a list of {', '.join(COLUMNS)}, each once, other as often as needed",
    ),
    "box_form": one_of(*BOX_FORMS),
    "box_unit": (
        lambda v: v in UNITS or (is_number(v) and v > 0),
        f"{' or '.join(UNITS)}, or a number of pixels",
    ),
    "activation": one_of(*ACTIVATIONS),
    "first_label": (lambda v: is_int(v) and v >= 0, "a whole number from 0"),
    "nms": (lambda v: v == "none" or (is_number(v) and 0 < v <= 1), "a number in 0..1, or none"),
    "names": (are_names, EXPECTED),
    "classes": (
        lambda v: is_object(v) and all(isinstance(word, str) for pair in v.items() for word in pair),
        "names of the detector, each with a class of the data",
    ),
}


def read_description(file: OnnxFile, path: str | None) -> tuple[dict[str, Any], str]:
    """Return the fields of an ONNX file's description, over those that its metadata give, and the description's name.

    Args:
        path: of the YAML; None: the one beside the file, if there is one.
    """
    path = path or beside(file.path)
    if path is None:
        return from_metadata(file, named=False), file.path
    data = read_yaml(path, path)
    data = {} if data is None else data
    checked(data, is_object, f"the fields {', '.join(FIELDS)}", path)
    for name, value in data.items():
        if name not in FIELDS:
            raise UserError(f"{path}: expected the fields {', '.join(FIELDS)}, found {name}{near(str(name), FIELDS)}")
        checked(value, *FIELDS[name], f"{path}: {name}")
    recorded = from_metadata(file, named="names" in data)
    if data.get("resize") == "none":
        recorded.pop("size", None)
    return recorded | data, path


def beside(file: str) -> str | None:
    """Return the description beside an ONNX file, FILE.onnx.yaml before FILE.yaml; None where there is none."""
    paths = Path(f"{file}.yaml"), Path(file).with_suffix(".yaml")
    return next((str(path) for path in paths if path.exists()), None)


def from_metadata(file: OnnxFile, named: bool) -> dict[str, Any]:
    """Return the fields that the metadata of tools/export.py or of Ultralytics give; `named`: without names."""
    if EXPORT in file.metadata:
        return from_export(file)
    if "names" not in file.metadata:
        return {}
    fields = {} if named else {"names": names_in_metadata(file.metadata["names"], file.path)}
    return fields | ({"resize": "letterbox_centre"} | size_in_metadata(file) if "stride" in file.metadata else {})


def size_in_metadata(file: OnnxFile) -> dict[str, Any]:
    """Return the size that Ultralytics exported with, as a field; {} where none can be read."""
    try:
        size = json.loads(file.metadata.get("imgsz", ""))
    except (ValueError, RecursionError):
        return {}
    return {"size": size} if FIELDS["size"][0](size) else {}


def sensor_of_export(file: OnnxFile) -> str | None:
    """Return the sensor of an export of tools/export.py, None of other files.

    Raises:
        UserError: it reads two sensors, or was made with --raw.
    """
    if EXPORT not in file.metadata:
        return None
    facts = export_facts(file)
    if len(facts["sensors"]) > 1:
        expected = "expected a detector of one sensor"
        raise UserError(f"{file.path}: {expected}, found one of {' and '.join(facts['sensors'])}: test its run instead")
    if facts["raw"]:
        raise UserError(f"{file.path}: expected an export with boxes, found one that was made with --raw")
    return facts["sensors"][0]


def export_facts(file: OnnxFile) -> dict[str, Any]:
    """Return the metadata of tools/export.py, checked."""
    source = f"{file.path}: metadata {EXPORT}"
    try:
        facts = json.loads(file.metadata[EXPORT])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: expected JSON, found: {error}") from None
    sensors = (lambda v: is_list(v, is_sensor) and bool(v), f"a list of {' and '.join(SENSORS)}")
    checks: dict[str, Check] = {"sensors": sensors, "raw": FLAG, "classes": FIELDS["names"], "fill": OBJECT}
    for name, check in checks.items():
        check_field(facts, name, check, source)
    for sensor in facts["sensors"]:
        check_field(facts, f"fill.{sensor}", FIELDS["fill"], source)
    return facts


def from_export(file: OnnxFile) -> dict[str, Any]:
    """Return the fields of an export of tools/export.py."""
    sensor, facts = sensor_of_export(file), export_facts(file)
    outputs = {"boxes": "boxes", "scores": "scores", "labels": "labels", "names": facts["classes"]}
    extent = {"extra_inputs": {"extent": "extent_hw"}}
    return outputs | extent | {"input": sensor, "resize": "letterbox", "fill": facts["fill"][sensor]}
