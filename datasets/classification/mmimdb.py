"""MM-IMDB: film posters and word vectors of plots, each film with any of 23 genres (Arevalo et al., 1702.01992).

Reads what `python -m datasets.prepare_mmimdb` writes: `FOLDER/{train,dev,test}/image_000000.npy`, `text_000000.npy`
and `label_000000.npy`, and `FOLDER/mmimdb.json`, which names the genres and, in the order of the numbers, the films.
A folder with `split.json` in place of `mmimdb.json` is read in the raw form (mmimdb_raw.py).

Shapes: K genres.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.classification.examples import SMALL, Example, LabelledData
from datasets.classification.mmimdb_raw import FILMS, IMAGE, LISTS, MODALITIES, SPLIT, VECTORS, open_raw
from utils.errors import UserError, short
from utils.run_folder import read_json
from utils.untrusted import checked, is_names, names_in, plain_file

INDEX = "mmimdb.json"
TEXT = (300,)
DTYPES = {"image": ("uint8",), "text": ("float32",), "label": ("int32", "int64", "uint8")}


def open_mmimdb(folder: str, small: bool = False) -> LabelledData:
    """Index a folder of either form; of the prepared one labels are read, images and vectors only looked up.

    Args:
        folder: that of `mmimdb.json`, or of `split.json`.
        small: the first examples of each list alone.
    Raises:
        UserError: no such folder, a file is missing, or a label is wrong; names the file.
    """
    root = Path(folder)
    if (root / SPLIT).is_file() and not (root / INDEX).is_file():
        return open_raw(root, small)
    classes, ids = _read_index(root / INDEX)
    kept = {name: listed[: SMALL if small else None] for name, listed in ids.items()}
    examples = {name: _examples(root / name, listed, len(classes)) for name, listed in kept.items()}
    return LabelledData("mmimdb", classes, True, MODALITIES, examples, load)


def load(example: Example, modalities: tuple[str, ...], seed: int | None) -> dict[str, Tensor]:
    """Read "image", uint8 RGB (3, 256, 160), and "text", float32 (300,); nothing is drawn."""
    shapes = {"image": IMAGE, "text": TEXT}
    return {m: torch.from_numpy(read_array(Path(example.paths[m]), m, shapes[m])) for m in modalities}


def file_name(kind: str, number: int) -> str:
    return f"{kind}_{number:06d}.npy"


def read_array(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read one of the three kinds of files.

    Args:
        kind: "image", "text" or "label".
    Raises:
        UserError: missing, cut, or of another type or shape.
    """
    try:
        # A mapping takes no memory before the shape is known to be right.
        array = np.load(plain_file(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: expected an array of numpy, found none to read ({error})") from error
    if array.dtype.name not in DTYPES[kind] or array.shape != shape:
        wanted = " or ".join(DTYPES[kind])
        raise UserError(f"{path}: expected {wanted} {shape}, found {array.dtype} {array.shape}")
    return np.array(array)


def _read_index(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    if not path.is_file():
        made = "python -m datasets.prepare_mmimdb HDF5 SPLIT_JSON OUT"
        raw = f"{SPLIT}, {VECTORS} and {FILMS}/ of the raw form"
        raise UserError(f"{path.parent}: expected {INDEX} in it, as `{made}` writes it, or {raw}, found neither")
    data = read_json(path)
    ids = data.get("ids")
    checked(data.get("classes"), is_names, "names of genres", f"{path}: field classes")
    if not isinstance(ids, dict) or not all(is_names(ids.get(name)) for name in LISTS):
        raise UserError(f"{path}: field ids: expected lists of film ids {', '.join(LISTS)}, found {short(ids)}")
    every = [film for name in LISTS for film in ids[name]]
    if len(set(every)) < len(every):
        raise UserError(f"{path}: field ids: expected each film once, found {len(every) - len(set(every))} again")
    return data["classes"], {name: ids[name] for name in LISTS}


def _examples(folder: Path, ids: list[str], num_classes: int) -> list[Example]:
    there = set(names_in(folder, "a folder of arrays"))
    wanted = (file_name(kind, number) for number in range(len(ids)) for kind in MODALITIES)
    if missing := next((name for name in wanted if name not in there), None):
        raise UserError(f"{folder / missing}: expected one for each film of {INDEX}, found none")
    return [_example(folder, number, film, num_classes) for number, film in enumerate(ids)]


def _example(folder: Path, number: int, film: str, num_classes: int) -> Example:
    files = {modality: str(folder / file_name(modality, number)) for modality in MODALITIES}
    path = folder / file_name("label", number)
    label = read_array(path, "label", (num_classes,))
    if not np.isin(label, (0, 1)).all():
        raise UserError(f"{path}: expected 0 or 1 for each genre, found {short(label.tolist())}")
    return Example(film, files, tuple(label.nonzero()[0].tolist()))
