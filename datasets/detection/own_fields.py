"""The fields of an own set's YAML description, each checked: a wrong one is one line with file and field.

`place` names both.
"""

from collections.abc import Collection
from typing import Any

from datasets.detection.annotations import is_name, is_number
from datasets.detection.transforms import Normalization
from datasets.images import Counts
from utils.errors import UserError, near, short
from utils.untrusted import checked, is_list

# What a value must be, and in words.
PATH = (lambda value: is_name(value) and "\0" not in value, "a path")
NAMES = (lambda value: is_list(value, is_name) and 0 < len(set(value)) == len(value), "a list of different names")
THREE = (lambda value: is_list(value, is_number, 3) and 0 <= min(value) <= max(value) <= 1, "three numbers in 0..1")
COUNTS = (lambda value: is_list(value, is_number, 2) and value[0] < value[1], "[dark, bright] with dark < bright")


def renaming(place: str, value: Any, modalities: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return what is replaced in the annotated name, and what by."""
    expected = "two texts, what is replaced in the annotated name and what by"
    pairs = mapping(place, value, modalities)
    return {m: tuple(checked(pair, _is_renaming, expected, f"{place}.{m}")) for m, pair in pairs.items()}


def _is_renaming(value: Any) -> bool:
    return is_list(value, lambda text: isinstance(text, str), 2) and value[0] != ""


def counts(place: str, value: Any) -> Counts | None:
    return None if value is None else tuple(map(float, checked(value, *COUNTS, place)))


def aliases(place: str, value: Any, classes: tuple[str, ...]) -> dict[str, str]:
    checked(value, lambda value: isinstance(value, dict), "other names with their class", place)
    for alias, name in value.items():
        checked(name, lambda name: name in classes, f"one of {', '.join(classes)}", f"{place}.{alias}")
    return {str(alias): name for alias, name in value.items()}


def normalization(place: str, value: Any, modalities: tuple[str, ...]) -> Normalization:
    result = {}
    for modality, numbers in mapping(place, value, modalities).items():
        field = f"{place}.{modality}"
        numbers = mapping(field, numbers, ("mean", "std"), ("mean", "std"))
        mean, std = (tuple(map(float, checked(numbers[name], *THREE, f"{field}.{name}"))) for name in ("mean", "std"))
        checked(numbers["std"], lambda std: min(std) > 0, "numbers above 0", f"{field}.std")
        result[modality] = mean, std
    return result


def mapping(place: str, value: Any, allowed: Collection[str], needed: Collection[str] = ()) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{place}: expected {', '.join(allowed)} with a value each, found {short(value)}")
    for name in value:
        if name not in allowed:
            raise UserError(f"{place}: expected {', '.join(allowed)}, found {name}{near(str(name), allowed)}")
    for name in needed:
        if name not in value:
            raise UserError(f"{place}.{name}: expected this field, found {', '.join(value) or 'none'}")
    return value
