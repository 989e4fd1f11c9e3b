"""How a report writes numbers and names."""

from typing import Any

from utils.errors import printable

NONE = "–"
LARGEST = 1e300  # larger numbers count as infinite


def number(value: Any, otherwise: float | None = None) -> Any:
    """Return a value if it is a finite number, else `otherwise`."""
    return value if type(value) in (int, float) and abs(value) < LARGEST else otherwise


def points(value: Any) -> str:
    """Return a value of 0 to 1 in points of 100."""
    return NONE if number(value) is None else f"{100 * value:.1f}"


def counted(value: Any) -> str:
    """Return a whole number with thousands separators."""
    return NONE if number(value) is None else f"{value:,.0f}"


def duration(seconds: Any) -> str:
    """Return seconds as hours, minutes and seconds."""
    if number(seconds) is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def as_shown(name: str) -> str:
    """Return a name as pictures show it; matplotlib leaves names that begin with _ out of a legend."""
    name = printable(name)
    return f" {name}" if name.startswith("_") else name
