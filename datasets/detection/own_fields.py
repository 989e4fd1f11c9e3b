"""The fields of an own set's YAML description, each checked: a wrong one is one line with file and field."""

from collections.abc import Callable
from typing import Any

from datasets.detection.annotations import is_name, is_number
from datasets.detection.transforms import Normalization
from datasets.images import Counts
from utils.errors import UserError, near, short


def renaming(file: str, value: Any, modalities: tuple[str, ...]) -> dict[str, Callable[[str], str]]:
    """Return what turns the annotated name into the image's: {rgb: [from, to]} replaces a part of it."""
    names = {}
    for modality, pair in mapping(file, "names", value, modalities, ()).items():
        if not isinstance(pair, list) or len(pair) != 2 or not is_name(pair[0]) or not isinstance(pair[1], str):
            raise UserError(
                f"{file}: names.{modality}: expected two texts, what is replaced in the annotated name and what by, "
                f"found {short(pair)}"
            )
        names[modality] = _replacing(*pair)
    return names


def _replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda name: name.replace(old, new)


def aliases(file: str, value: Any, classes: tuple[str, ...]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise UserError(f"{file}: aliases: expected other names with their class, found {short(value)}")
    for alias, name in value.items():
        if name not in classes:
            raise UserError(f"{file}: aliases.{alias}: expected one of {', '.join(classes)}, found {short(name)}")
    return {str(alias): name for alias, name in value.items()}


def normalization(file: str, value: Any, modalities: tuple[str, ...]) -> Normalization:
    result = {}
    for modality, numbers in mapping(file, "normalization", value, modalities, ()).items():
        field = f"normalization.{modality}"
        numbers = mapping(file, field, numbers, ("mean", "std"), ("mean", "std"))
        mean, std = (_three(file, f"{field}.{name}", numbers[name]) for name in ("mean", "std"))
        result[modality] = mean, std
        if min(std) <= 0:
            raise UserError(f"{file}: {field}.std: expected numbers above 0, found {short(numbers['std'])}")
    return result


def _three(file: str, field: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3 or not all(is_number(v) and 0 <= v <= 1 for v in value):
        raise UserError(f"{file}: {field}: expected three numbers in 0..1, found {short(value)}")
    return tuple(map(float, value))


def counts(file: str, value: Any) -> Counts | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)) or value[0] >= value[1]:
        raise UserError(f"{file}: thermal_counts: expected [dark, bright] with dark < bright, found {short(value)}")
    return float(value[0]), float(value[1])


def mapping(file: str, field: str, value: Any, allowed: tuple[str, ...], needed: tuple[str, ...]) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{file}: {field}: expected {', '.join(allowed)} with a value each, found {short(value)}")
    for name in value:
        if name not in allowed:
            raise UserError(f"{file}: {field}: expected {', '.join(allowed)}, found {name}{near(str(name), allowed)}")
    for name in needed:
        if name not in value:
            raise UserError(f"{file}: {field}.{name}: expected this field, found {', '.join(value) or 'none'}")
    return value


def names(file: str, field: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(map(is_name, value)) or len(set(value)) < len(value):
        raise UserError(f"{file}: {field}: expected a list of different names, found {short(value)}")
    return value


def text(file: str, field: str, value: Any) -> str:
    if not is_name(value) or "\0" in value:
        raise UserError(f"{file}: {field}: expected a path, found {short(value)}")
    return value
