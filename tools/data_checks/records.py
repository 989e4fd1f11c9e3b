"""Read every image of a data set, and list what is wrong with it, each fault once.

A fault hides what follows from it: a file that cannot be decoded has no size, one that is missing cannot be compared.
Files that no list names: unlisted_files.py.

Shapes: h, w size of an image; S as in registration.py.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from datasets.detection.dataset import DetectionRecord
from datasets.detection.sources import spelled
from datasets.detection.transforms import COLOUR
from datasets.images import read_rgb, read_thermal_values
from tools.data_checks.registration import correlate
from utils.errors import UserError, reported
from utils.untrusted import plain_file

SIZES = "sizes"


class Problem(NamedTuple):
    """A fault; `kind` heads those of its like, `message` names the file, what was expected and found."""

    kind: str
    message: str


@dataclass
class CheckedRecord:
    """What the files of one record are; by modality, of those that can be read.

    Attributes:
        origin: the list's name.
        record: of the data set.
        channels: of the images of each modality, the annotated one first.
        digests: of the files' bytes.
        sizes: (width, height) in pixels.
        blank: the modalities whose image has one colour throughout.
        grey_bits: 8 or 16, None where there is no grey image that can be read.
        problems: of this record alone.
        compared: its two images were correlated, which takes images with edges.
    """

    origin: str
    record: DetectionRecord
    channels: dict[str, int]
    digests: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)
    grey_bits: int | None = None
    problems: list[Problem] = field(default_factory=list)
    compared: bool = False


@contextlib.contextmanager
def in_threads(read: Callable[[Any], Any], items: list, workers: int, words: str) -> Iterator[Iterable[Any]]:
    """Give what `read` returns of each item, in order, with a progress bar; decoding and NumPy run side by side."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield tqdm(pool.map(read, items), words, len(items), leave=False, disable=None)
    finally:
        pool.shutdown(cancel_futures=True)  # else Ctrl-C would wait for all items


def inspect_record(
    origin: str, record: DetectionRecord, channels: dict[str, int], factor: int
) -> tuple[CheckedRecord, np.ndarray | None]:
    """Read the files of a record; also returns `registration.correlate` (S, S) of a pair, None if not compared."""
    checked = CheckedRecord(origin, record, channels)
    images = _read_images(checked)
    checked.sizes = {modality: image.shape[:0:-1] for modality, image in images.items()}
    checked.blank = [m for m, image in images.items() if _is_blank(image)]
    checked.grey_bits = next((8 * image.itemsize for m, image in images.items() if channels[m] != COLOUR), None)
    # Equal bytes are the fault, whatever size they have.
    same = len(checked.digests) > 1 and len(set(checked.digests.values())) == 1
    checked.problems += [_same_file(checked)] if same else _wrong_size(checked)
    if checked.problems or checked.blank or len(images) != 2:
        return checked, None
    grey, colour = sorted(images, key=lambda modality: channels[modality])
    correlation = correlate(images[colour], images[grey], factor)
    checked.compared = correlation is not None
    return checked, correlation


def duplicates(checked: list[CheckedRecord]) -> list[Problem]:
    """Find records that are there twice, within a list or in two: each once, with the first that it equals.

    A wrong size of such a record follows from that, and is removed from its problems.
    """
    first: dict[tuple[str, str], CheckedRecord] = {}
    problems = []
    for one in checked:
        keys = [("name", one.record.file_name)]
        keys += [(m, one.digests[m]) for m in one.channels if m in one.sizes and m not in one.blank]
        earlier = {what: first[what, value] for what, value in keys if (what, value) in first}
        if earlier:
            problems.append(_duplicate(one, earlier))
            one.problems = [problem for problem in one.problems if problem.kind != SIZES]
        for key in keys:
            first.setdefault(key, one)
    return problems


def _duplicate(checked: CheckedRecord, earlier: dict[str, CheckedRecord]) -> Problem:
    """Say what of a record is there before; `earlier`: the record that has it, by "name" or modality."""
    first = next(iter(earlier.values()))
    within = checked.origin == first.origin
    same = [spelled(m) for m in checked.channels if earlier.get(m) is first]
    what = "its name" if "name" in earlier else f"the bytes of its {' and '.join(same)} file{'s' * (len(same) > 1)}"
    place = "its list" if within else f"{checked.origin} and {first.origin}"
    unit = "pairs" if len(checked.channels) > 1 else "images"
    kind = f"{unit} twice in a list" if within else f"{unit} in two lists"
    found = f"those of {first.record.file_name} as well" if "name" not in earlier else "it twice"
    path = checked.record.paths[next(iter(checked.channels))]
    return Problem(kind, f"{path}: expected {what} once in {place}, found {found}")


def _read_images(checked: CheckedRecord) -> dict[str, np.ndarray]:
    """Read the files' bytes for `digests`, and decode what can be decoded, by modality."""
    images = {}
    for modality in checked.channels:
        with reported(lambda error: checked.problems.append(Problem("files that are no images", str(error)))):
            checked.digests[modality] = _digest(checked.record.paths[modality])
            image = _read(checked, modality)
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


def _read(checked: CheckedRecord, modality: str) -> torch.Tensor | None:
    """Decode one file; an image in colours where a grey one is expected is noted."""
    path = checked.record.paths[modality]
    if checked.channels[modality] == COLOUR:
        return read_rgb(path)
    try:
        return read_thermal_values(path)
    except UserError as error:
        read_rgb(path)  # raises where it is no image at all
        checked.problems.append(Problem(f"{modality} files in colours or of unknown numbers", str(error)))
    return None


def _same_file(checked: CheckedRecord) -> Problem:
    annotated, unlabelled = (spelled(modality) for modality in checked.channels)
    path = checked.record.paths[list(checked.channels)[1]]
    message = f"{path}: expected an {unlabelled} image, found the bytes of its {annotated} partner"
    return Problem("one image as both of a pair", message)


def _wrong_size(checked: CheckedRecord) -> list[Problem]:
    """Compare the sizes with the annotated one; two wrong images of a pair are one fault."""
    record = checked.record
    wrong = {m: size for m, size in checked.sizes.items() if size != (record.width, record.height)}
    if not wrong:
        return []
    found = " and ".join(f"{spelled(m)} of {width}x{height} px" for m, (width, height) in wrong.items())
    partner = " and as its partner" if len(wrong) == 1 and len(checked.sizes) == 2 else ""
    expected = f"{record.width}x{record.height} px, as annotated for {record.file_name}{partner}"
    return [Problem(SIZES, f"{record.paths[next(iter(wrong))]}: size: expected {expected}, found {found}")]
