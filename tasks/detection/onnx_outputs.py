"""From the description of an ONNX detector to its outputs; what it leaves out follows from names, types and shapes."""

from dataclasses import replace
from typing import Any

from models.detection.onnx_output import COLUMNS, Outputs
from tasks.detection.onnx_classes import as_list, map_classes
from tasks.detection.onnx_file import TYPES, Fields, OnnxFile, Port
from tasks.detection.onnx_inputs import axes
from utils.errors import UserError, near

NMS_IOU = 0.65  # of outputs with a score per class: between 0.6 of YOLOv5's and 0.7 of YOLOv8's evaluation
PARTS = ("boxes", "scores", "labels", "count", "detections")
NEEDED = ("boxes", "scores")
GIVES = {"box": "boxes", "score": "scores", "class_scores": "scores", "label": "labels"}  # the part in a column
# Names by which outputs are recognised, in lower case; TENSORFLOW: of the TensorFlow Object Detection API.
TENSORFLOW = {
    "boxes": ("detection_boxes",),
    "scores": ("detection_scores",),
    "labels": ("detection_classes",),
    "count": ("num_detections",),
}
PLAIN = {
    "boxes": ("boxes", "bboxes", "bbox", "box"),
    "scores": ("scores", "score"),
    "labels": ("labels", "classes", "class_ids", "class_idx", "label"),
    "count": ("num_detections", "num_dets", "count"),
}
RELATIVE_YX = {"box_form": "yxyx", "box_unit": "relative"}


def outputs_of(file: OnnxFile, fields: Fields, classes: list[str], source: str) -> Outputs:
    """Return what the outputs are.

    Args:
        fields: of the description.
        classes: of the data.
        source: the description's name, for messages.

    Raises:
        UserError: names the field that is missing or does not fit the file.
    """
    if "names" not in fields:
        expected = "expected the detector's class names (or coco80, coco90, coco91)"
        raise UserError(f"{source}: names: {expected}, found none: see docs/onnx_detectors.md")
    names, first_label = as_list(fields["names"]), fields.get("first_label", 0)
    channels = map_classes(names, classes, fields.get("classes", {}), source)
    parts, forms = parts_of(file, fields, source)
    check_types(file, parts, source)
    columns = columns_of(file, fields, parts, len(names) + first_label, source)
    if columns and "score" in columns and "labels" not in parts and "label" not in columns and len(names) == 1:
        columns = tuple("class_scores" if name == "score" else name for name in columns)  # those of the only class
    found = check_parts(parts, columns, fields, source)
    forms = forms | ({"box_form": "cxcywh"} if "class_scores" in columns else {}) | fields
    nms = forms.get("nms", "none" if "labels" in found else NMS_IOU)
    values: dict[str, Any] = {name: forms[name] for name in ("box_form", "activation", "first_label") if name in forms}
    values |= {"unit": forms.get("box_unit", "pixels"), "nms": None if nms == "none" else float(nms)}
    outputs = Outputs(file.path, parts, channels, columns=columns, **values)
    return replace(outputs, columns_first=columns_first(file, outputs))


def parts_of(file: OnnxFile, fields: Fields, source: str) -> tuple[dict[str, str], Fields]:
    """Return the output of each part, as described or recognised, and the fields that follow from their names."""
    names = [port.name for port in file.outputs]
    described = {part: fields[part] for part in PARTS if part in fields}
    for part, name in described.items():
        if name not in names:
            raise UserError(
                f"{source}: {part}: expected an output of {', '.join(names)}, found {name}{near(name, names)}"
            )
    if described:
        return described, {}
    if {*NEEDED, "labels"} <= (parts := by_name(names, TENSORFLOW)).keys():
        return parts, RELATIVE_YX
    if {*NEEDED} <= (parts := by_name(names, PLAIN)).keys():
        return parts, {}
    if len(names) == 1:
        return {"detections": names[0]}, {}
    if parts := by_shape(file.outputs):
        return parts, {}
    expected = "expected the names of the outputs with boxes, scores and labels"
    raise UserError(f"{source}: boxes: {expected}, of {', '.join(names)}, found no such fields")


def check_types(file: OnnxFile, parts: dict[str, str], source: str) -> None:
    """Refuse outputs of other things than real numbers, as texts and complex numbers are; those not read may be any."""
    for port in file.outputs:
        if port.name in parts.values() and not port.dtype:
            expected = f"expected a type of {', '.join(TYPES.values())}"
            raise UserError(f"{source}: output {port.name}: {expected}, found another")


def by_name(names: list[str], words: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the outputs that are called as one part alone may be."""
    found = {part: [name for name in names if name.lower() in known] for part, known in words.items()}
    return {part: matches[0] for part, matches in found.items() if len(matches) == 1}


def by_shape(ports: tuple[Port, ...]) -> dict[str, str]:
    """Return boxes, scores and labels of three outputs of which one has four columns and one is of integers."""
    boxes = [port.name for port in ports if len(port.shape) > 1 and port.shape[-1] == COLUMNS["box"]]
    labels = [port.name for port in ports if "int" in port.dtype]
    scores = [port.name for port in ports if port.name not in (*boxes, *labels)]
    if len(boxes) == len(labels) == len(scores) == 1 and boxes != labels:
        return {"boxes": boxes[0], "scores": scores[0], "labels": labels[0]}
    return {}


def columns_of(file: OnnxFile, fields: Fields, parts: dict[str, str], num_scores: int, source: str) -> tuple[str, ...]:
    """Return the columns of "detections": those described, else those that fit its shape."""
    if "detections" not in parts:
        if "columns" in fields:
            raise UserError(f"{source}: columns: expected detections beside it, found none")
        return ()
    if "columns" in fields:
        return tuple(fields["columns"])
    port = next(port for port in file.outputs if port.name == parts["detections"])
    forms = [("box", "score", "label"), ("box", "class_scores"), ("box", "objectness", "class_scores")]
    forms = [("box", "score")] if "labels" in parts else forms
    widths = {form: sum(COLUMNS[name] or num_scores for name in form) for form in forms}
    # Class scores may stand in either axis, while rows of a box each are what is left of a suppression.
    places = {form: port.shape[-2:] if "class_scores" in form else port.shape[-1:] for form in forms}
    fitting = [form for form, width in widths.items() if width in places[form]]
    if len(fitting) != 1:
        words = " and ".join(f"[{', '.join(form)}]" for form in fitting) or "no usual columns"
        found = f"no such field, and a shape {axes(port)} that fits {words}"
        raise UserError(f"{source}: columns: expected those of output {port.name}, found {found}")
    return fitting[0]


def check_parts(parts: dict[str, str], columns: tuple[str, ...], fields: Fields, source: str) -> set[str]:
    """Return the parts that outputs and columns give; refuse parts that are missing, there twice or contradictory."""
    in_columns = [GIVES[name] for name in columns if name in GIVES]
    given = [*(part for part in parts if part != "detections"), *in_columns]
    for part in (*NEEDED, "labels"):
        if given.count(part) > 1:
            raise UserError(f"{source}: {part}: expected it once, found it in two places")
        if part in NEEDED and part not in given:
            raise UserError(f"{source}: {part}: expected an output or a column with them, found none")
    per_class = "labels" not in given
    if "class_scores" in columns and not per_class:
        raise UserError(f"{source}: labels: expected none beside class_scores, found some")
    if "score" in columns and per_class:
        raise UserError(f"{source}: labels: expected an output or a column with them, found none")
    if "objectness" in columns and "class_scores" not in columns:
        raise UserError(f"{source}: columns: expected class_scores beside objectness, found none")
    if fields.get("activation") == "softmax" and not per_class:
        raise UserError(f"{source}: activation: expected sigmoid or none for one score per box, found softmax")
    return {*given}


def columns_first(file: OnnxFile, outputs: Outputs) -> bool | None:
    """Return whether columns are the last axis but one of "detections", None where its shape shows neither."""
    if "detections" not in outputs.parts:
        return None
    port = next(port for port in file.outputs if port.name == outputs.parts["detections"])
    fits = [size in outputs.widths for size in port.shape[-2:]]
    return not fits[-1] if any(fits) else None
