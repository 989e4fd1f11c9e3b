"""Read every image of a data set, and say what is wrong with which, each fault once.

A fault hides what follows from it: a file that cannot be decoded has no size, one that is missing makes no pair.
Files that no list names: unlisted.py.

Shapes: h, w size of a pair; S as in registration.py.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from datasets.detection.paired_detection import PairRecord
from datasets.detection.pairing import MODALITIES, SPELLED
from datasets.images import read_rgb, read_thermal_values
from tools.data_checks.registration import correlate
from utils.errors import UserError, reported
from utils.plain import plain_file

SIZES = "sizes"


class Problem(NamedTuple):
    """A fault; `kind` heads those of its like, `message` names the file, what was expected and found."""

    kind: str
    message: str


@dataclass
class Pair:
    """What the files of one pair are; by modality, of those that can be read.

    Attributes:
        origin: the list's name.
        digests: of the files' bytes.
        sizes: (width, height) in pixels.
        blank: the modalities whose image has one colour throughout.
        thermal_bits: 8 or 16, None for a thermal file that cannot be read.
        problems: of this pair alone.
        compared: the two were correlated, which takes two images with edges.
    """

    origin: str
    record: PairRecord
    digests: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)
    thermal_bits: int | None = None
    problems: list[Problem] = field(default_factory=list)
    compared: bool = False

    def path(self, modality: str) -> str:
        return getattr(self.record, f"{modality}_path")


def inspect_pairs(
    records: dict[str, list[PairRecord]], factor: int, workers: int
) -> Iterator[tuple[Pair, np.ndarray | None]]:
    """Read all pairs, in order.

    Args:
        records: by list.
        factor: by which pairs are shrunk to be compared.
        workers: threads; what takes time (decoding, NumPy) runs side by side in them.
    Yields:
        What `inspect_pair` returns.
    """
    jobs = [(origin, record, factor) for origin, mine in records.items() for record in mine]
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(lambda job: inspect_pair(*job), jobs)
    finally:
        pool.shutdown(cancel_futures=True)  # else Ctrl-C would wait for all pairs


def inspect_pair(origin: str, record: PairRecord, factor: int) -> tuple[Pair, np.ndarray | None]:
    """Read both files of a pair; also returns `registration.correlate` (S, S), None where the two are not compared."""
    pair = Pair(origin, record)
    images = _read_images(pair)
    pair.sizes = {modality: image.shape[:0:-1] for modality, image in images.items()}
    pair.blank = [m for m, image in images.items() if _is_blank(image)]
    if "thermal" in images:
        pair.thermal_bits = 8 * images["thermal"].itemsize
    # Equal bytes are the fault, whatever size they have.
    same = pair.digests.get("rgb") == pair.digests.get("thermal") is not None
    problem = _same_file(pair) if same else _wrong_size(pair)
    if problem:
        pair.problems.append(problem)
    if pair.problems or pair.blank:
        return pair, None
    correlation = correlate(images["rgb"], images["thermal"], factor)
    pair.compared = correlation is not None
    return pair, correlation


def duplicates(pairs: list[Pair]) -> list[Problem]:
    """Find pairs that are there twice, within a list or in two: each once, with the first that it equals.

    What is wrong with the size of such a pair follows from that, and is struck from its problems.
    """
    first, problems = {}, []
    for pair in pairs:
        keys = [("name", pair.record.file_name)]
        keys += [(m, pair.digests[m]) for m in MODALITIES if m in pair.sizes and m not in pair.blank]
        known = {what: first[what, value] for what, value in keys if (what, value) in first}
        if known:
            problems.append(_duplicate(pair, known))
            pair.problems = [problem for problem in pair.problems if problem.kind != SIZES]
        for key in keys:
            first.setdefault(key, pair)
    return problems


def _duplicate(pair: Pair, known: dict[str, Pair]) -> Problem:
    """Say what of a pair is there before; `known`: the earlier pair by "name" or modality."""
    other = next(iter(known.values()))
    within = pair.origin == other.origin
    same = [SPELLED[m] for m in MODALITIES if known.get(m) is other]
    what = "its name" if "name" in known else f"the bytes of its {' and '.join(same)} file{'s' * (len(same) > 1)}"
    place = "its list" if within else f"{pair.origin} and {other.origin}"
    kind = "pairs twice in a list" if within else "pairs in two lists"
    found = f"those of {other.record.file_name} as well" if "name" not in known else "it twice"
    return Problem(kind, f"{pair.path('thermal')}: expected {what} once in {place}, found {found}")


def _read_images(pair: Pair) -> dict[str, np.ndarray]:
    """Read the files' bytes for `digests`, and decode what can be decoded, by modality."""
    images = {}
    for modality in MODALITIES:
        with reported(lambda error: pair.problems.append(Problem("files that are no images", str(error)))):
            pair.digests[modality] = _digest(pair.path(modality))
            image = _read(pair, modality)
            if image is not None:
                images[modality] = image.numpy()
    return images


def _is_blank(image: np.ndarray) -> bool:
    """Tell whether (channels, h, w) has one colour throughout; the first row alone says no of almost all."""
    colour = image[:, :1, :1]
    return bool((image[:, :1] == colour).all() and (image == colour).all())


def _digest(path: str) -> str:
    try:
        content = plain_file(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected an image, found none to read ({error.strerror})") from error
    if not content:
        raise UserError(f"{path}: expected an image, found an empty file")
    return hashlib.sha256(content).hexdigest()


def _read(pair: Pair, modality: str) -> torch.Tensor | None:
    """Decode one file; a thermal one that is an image, but not one of heat, is noted."""
    path = pair.path(modality)
    if modality == "rgb":
        return read_rgb(path)
    try:
        return read_thermal_values(path)
    except UserError as error:
        read_rgb(path)  # raises where it is no image at all
        pair.problems.append(Problem("thermal files in colours or of unknown numbers", str(error)))
    return None


def _same_file(pair: Pair) -> Problem:
    message = f"{pair.path('rgb')}: expected an RGB image, found the bytes of its thermal partner"
    return Problem("one image as both of a pair", message)


def _wrong_size(pair: Pair) -> Problem | None:
    """Compare the sizes with the annotated one; both of a pair that are wrong are one fault."""
    record = pair.record
    wrong = {m: size for m, size in pair.sizes.items() if size != (record.width, record.height)}
    if not wrong:
        return None
    found = " and ".join(f"{SPELLED[m]} of {width}x{height} px" for m, (width, height) in wrong.items())
    partner = " and as its partner" if len(wrong) == 1 and len(pair.sizes) == 2 else ""
    expected = f"{record.width}x{record.height} px, as annotated for {record.file_name}{partner}"
    return Problem(SIZES, f"{pair.path(next(iter(wrong)))}: size: expected {expected}, found {found}")
