"""Names of the classes of an ONNX detector, and which of them the data have.

Names come from the description, from the metadata "names" that Ultralytics writes, or from an export of our own.
"""

import ast
from typing import Any

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from utils.errors import UserError, near, short
from utils.untrusted import check_plain, is_list

COCO = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]  # 91, by COCO's ids; 0 is the background
ABSENT_IN_COCO = ("__background__", "N/A")
PRESETS = {
    "coco80": [name for name in COCO if name not in ABSENT_IN_COCO],
    "coco90": COCO[1:],
    "coco91": COCO,
}
# Words for the same thing: COCO's, those of VOC, and those of sets of people and traffic.
SYNONYMS = (
    {"person", "people", "pedestrian"},
    {"bicycle", "bike"},
    {"motorcycle", "motorbike"},
    {"airplane", "aeroplane"},
    {"couch", "sofa"},
    {"potted plant", "pottedplant"},
    {"dining table", "diningtable"},
    {"tv", "tvmonitor"},
)
NOTHING = "none"  # the class of the data of a name that is left out
MAX_NAMES = 10_000
MAX_TEXT = 500_000  # characters of names in metadata
EXPECTED = f"a list of names, a mapping of labels to names, or {', '.join(PRESETS)}"
UNREADABLE = (ValueError, SyntaxError, MemoryError, RecursionError)


def are_names(value: Any) -> bool:
    """Return whether a value is a name of PRESETS, a list of names, or a mapping of labels from 0 on to names."""
    if isinstance(value, dict):
        value = [value[label] for label in sorted(value)] if {*value} == {*range(len(value))} else None
    named = is_list(value, lambda name: isinstance(name, str)) and 0 < len(value) <= MAX_NAMES
    return named or (isinstance(value, str) and value in PRESETS)


def as_list(names: Any) -> list[str]:
    """Return names that are in a list, a mapping or a preset as a list."""
    if isinstance(names, str):
        return list(PRESETS[names])
    return [names[label] for label in sorted(names)] if isinstance(names, dict) else list(names)


def names_in_metadata(text: str, source: str) -> list[str]:
    """Return the names that metadata hold as the text of a Python dict or list.

    Raises:
        UserError: they are something else.
    """
    try:
        names = ast.literal_eval(text) if len(text) <= MAX_TEXT else None
        check_plain(names, source)
    except UNREADABLE:
        names = None
    if not are_names(names) or isinstance(names, str):
        raise UserError(f"{source}: metadata names: expected a list or mapping of names, found {short(text)}")
    return as_list(names)


def map_classes(names: list[str], classes: list[str], described: dict[str, str], source: str) -> tuple[int | None, ...]:
    """Return the class channel of the data of each name: that of `described`, else of the same or a synonymous word.

    Args:
        names: of the detector.
        classes: of the data.
        described: names of the detector with classes of the data, or NOTHING.

    Raises:
        UserError: `described` has a name or class that is not there, or no name is a class of the data.
    """
    for name, channel in described.items():
        if name not in names:
            raise UserError(f"{source}: classes.{name}: expected a name of the detector, found none{near(name, names)}")
        if channel != NOTHING and channel not in classes:
            expected = f"expected {', '.join(classes)} or {NOTHING}"
            raise UserError(f"{source}: classes.{name}: {expected}, found {short(channel)}")
    chosen = [described.get(name) or same_class(name, classes) for name in names]
    channels = tuple(classes.index(name) if name in classes else None for name in chosen)
    if all(channel is None for channel in channels):
        expected = f"expected a name for one of {', '.join(classes)}"
        raise UserError(f"{source}: classes: {expected}, found none among {short(names)}")
    return channels


def same_class(name: str, classes: list[str]) -> str | None:
    """Return the class that is written like a name, else the first that is a synonym of it."""
    plain = {plainly(word): word for word in reversed(classes)}
    if plainly(name) in plain:
        return plain[plainly(name)]
    synonyms = next((group for group in SYNONYMS if plainly(name) in group), ())
    return next((word for word in classes if plainly(word) in synonyms), None)


def plainly(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
