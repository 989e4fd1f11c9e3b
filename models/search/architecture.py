"""An architecture: the genotype of each part of a model that was searched, and the file that holds it.

Format 2 is {"format": 2, "id": ..., "parts": {"fusion": a genotype, "head": ..., ...}}. A file of format 1 is one
genotype, of the part that its space belongs to. Public text forms are of one part as well. Files are untrusted: a
wrong field is named, and what is built from it is bounded.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from utils.errors import UserError, short
from utils.untrusted import plain_file

FORMAT = 2
PARTS = ("fusion", "neck", "head", "cells")  # in the order of a forward pass
MAX_BYTES = 100_000  # of a file; the published text form has some 2,000


class Reader(Protocol):
    """What reads the genotype of a part; every `Space` is one.

    A reader may also have `spaces`, names of spaces by which a file of format 1 is recognised; and `from_text(text,
    source)`, which reads a public text form, with `text_field`, a field by which this form is recognised.
    """

    def from_json(self, data: Any, source: str) -> Any: ...


Readers = Mapping[str, Reader]  # by part


@dataclass(frozen=True)
class Architecture:
    """Genotypes by part.

    Args:
        parts: frozen dataclasses, each with `id` (a content id), `meta` (plain values: where it came from), `words` (it
            in one line) and `to_json()`.
    """

    parts: dict[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(tuple(self.parts.items()))

    @property
    def id(self) -> str:
        """Content id: that of the only genotype, or 12 hex digits of the SHA-256 of the ids by part."""
        ids = {part: genotype.id for part, genotype in self.parts.items()}
        if len(ids) == 1:
            return next(iter(ids.values()))
        return hashlib.sha256(json.dumps(ids, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def meta(self) -> dict:
        """Where the parts came from; of several the facts of later ones win."""
        return {name: value for genotype in self.parts.values() for name, value in genotype.meta.items()}

    @property
    def words(self) -> str:
        """The genotypes in one line."""
        several = len(self.parts) > 1
        return "; ".join(f"{part}: {g.words}" if several else g.words for part, g in self.parts.items())

    def with_meta(self, meta: dict) -> "Architecture":
        """Return the architecture with these facts in each of its genotypes."""
        return Architecture({part: replace(genotype, meta=meta) for part, genotype in self.parts.items()})

    def with_parts(self, parts: dict[str, Any]) -> "Architecture":
        """Return the architecture with these genotypes beside its own, in the order of a forward pass."""
        merged = self.parts | parts
        return Architecture({part: merged[part] for part in PARTS if part in merged}) if parts else self

    def to_json(self) -> dict:
        return {"format": FORMAT, "id": self.id, "parts": {part: g.to_json() for part, g in self.parts.items()}}


def read_architecture(path: str | Path, readers: Readers, complete: bool = True) -> Architecture:
    """Read a genotype file: JSON of format 2 or 1, or a public text form.

    Args:
        readers: by part; the file may hold no other parts.
        complete: the file must hold all of these parts.

    Raises:
        UserError: the file is missing or no genotype, or a field is wrong or does not fit; names file and field.
    """
    try:
        size = plain_file(path).stat().st_size
        text = Path(path).read_text(encoding="utf-8") if size <= MAX_BYTES else ""
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a readable genotype file, found: {error}") from None
    if size > MAX_BYTES:
        raise UserError(f"{path}: expected a genotype file of at most {MAX_BYTES} bytes, found {size}")
    if not text.lstrip().startswith("{") and (part := _part_of_text(text, readers)):
        if complete:
            _check_complete({part}, readers, str(path))
        return Architecture({part: readers[part].from_text(text, str(path))})
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected genotype JSON, found: {error}") from None
    return architecture_from_json(data, str(path), readers, complete)


def architecture_from_json(data: Any, source: str, readers: Readers, complete: bool = True) -> Architecture:
    """Return the architecture of untrusted JSON of format 2 or 1; see `read_architecture`."""
    if not isinstance(data, dict):
        raise UserError(f"{source}: expected a genotype, an object, found {short(data)}")
    two = "parts" in data
    if two and (type(data.get("format")) is not int or data["format"] != FORMAT):
        raise UserError(f"{source}: field format: expected {FORMAT}, found {short(data.get('format'))}")
    parts = data["parts"] if two else {_part_of(data, readers): data}
    if not isinstance(parts, dict) or not parts:
        raise UserError(f"{source}: field parts: expected an object of genotypes by part, found {short(parts)}")
    expected = ", ".join(readers)
    for part in parts:
        if part not in readers:
            raise UserError(f"{source}: field parts: expected genotypes of {expected}, found one of {short(part)}")
    if complete:
        _check_complete(parts, readers, source)
    wheres = {part: f"{source}: parts.{part}" if two else source for part in parts}
    return Architecture({part: readers[part].from_json(parts[part], wheres[part]) for part in readers if part in parts})


def _check_complete(parts: Iterable[str], readers: Readers, source: str) -> None:
    if set(readers) - set(parts):
        expected, found = ", ".join(readers), ", ".join(parts)
        raise UserError(f"{source}: field parts: expected genotypes of {expected}, found those of {found}")


def _part_of_text(text: str, readers: Readers) -> str | None:
    """Return which part a text form is of; the first that has one where no field tells it, None where none has one."""
    parts = {part: reader for part, reader in readers.items() if getattr(reader, "from_text", None)}
    matching = [part for part, reader in parts.items() if f"{reader.text_field}=" in text]
    return next(iter([*matching, *parts]), None)


def _part_of(data: dict, readers: Readers) -> str:
    """Return which part a genotype of format 1 is of, by its space; the first where none has this space."""
    matching = [part for part, reader in readers.items() if data.get("space") in list(getattr(reader, "spaces", ()))]
    return [*matching, *readers][0]
