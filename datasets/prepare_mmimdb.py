"""Split `multimodal_imdb.hdf5` into one file per film and modality, as `mmimdb.py` reads them.

    python -m datasets.prepare_mmimdb multimodal_imdb.hdf5 split.json OUT

The file holds posters as BGR minus the means of Caffe's VGG. OUT gets them as RGB pixels, uint8. The data sets that are
read are `features`, `images`, `genres` and `imdb_ids`. OUT appears when it is complete.

Shapes: N films, K genres.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from datasets.classification.mmimdb import IMAGE, INDEX, LISTS, TEXT, file_name
from datasets.classification.mmimdb_raw import film_id, read_split
from utils.args import Parser, command
from utils.errors import UserError, short
from utils.files import check_new, faults_named
from utils.run_folder import write_json
from utils.untrusted import is_names

MEANS = (103.939, 116.779, 123.68)  # of blue, green and red, 0 to 255: Caffe's VGG
ROWS = {"images": IMAGE, "features": TEXT, "imdb_ids": ()}  # shape of one film's


@command
def main(argv: list[str]) -> None:
    parser = Parser("Split MM-IMDB's HDF5 file into one file per film and modality.")
    parser.add_argument("hdf5", metavar="HDF5", help="multimodal_imdb.hdf5")
    parser.add_argument("split", metavar="SPLIT_JSON", help="lists of film ids: train, dev and test")
    parser.add_argument("out", metavar="OUT", help="new or empty folder; 3.3 GB for all 25,959 films")
    args = parser.parse_args(argv)
    counts = prepare_mmimdb(Path(args.hdf5), Path(args.split), Path(args.out))
    print(f"mmimdb: {args.out} ({', '.join(f'{name} {count}' for name, count in counts.items())} films)")


def prepare_mmimdb(hdf5: Path, split: Path, out: Path) -> dict[str, int]:
    """Write OUT and return the number of films of each list.

    Raises:
        UserError: OUT is not empty, a file is broken or is not MM-IMDB's, a listed film is missing, or the disk
            is full.
    """
    check_new(out)
    ids = read_split(split)
    with _readable(hdf5), h5py.File(hdf5, "r") as file, _whole(out) as folder:
        classes = _check(hdf5, file)
        places = _places(hdf5, file, ids)
        for row in tqdm(sorted(places), "films", leave=False, disable=None):  # in the file's order: each chunk once
            _write_film(folder, *places[row], {name: file[name][row] for name in ("images", "features", "genres")})
        write_json(folder / INDEX, {"classes": classes, "ids": ids})
    return {name: len(listed) for name, listed in ids.items()}


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return a poster (3, H, W), BGR minus means, as uint8 RGB, rounded and clipped."""
    bgr = image + np.array(MEANS)[:, None, None]
    return np.ascontiguousarray(bgr[::-1].round().clip(0, 255).astype(np.uint8))


def _check(path: Path, file: h5py.File) -> list[str]:
    """Check the data sets in the file and return the names of the genres."""
    for name in (*ROWS, "genres"):
        if not isinstance(file.get(name), h5py.Dataset):
            found = ", ".join(sorted(file)[:8]) or "nothing"
            raise UserError(f"{path}: expected MM-IMDB's data set {name!r}, found {found}")
    films, classes = len(file["imdb_ids"]), _read_names(path, file)
    for name, shape in (ROWS | {"genres": (len(classes),)}).items():
        if file[name].shape != (films, *shape):
            raise UserError(f"{path}: {name}: expected shape {(films, *shape)}, found {file[name].shape}")
        if shape and file[name].dtype.kind not in "iuf":
            raise UserError(f"{path}: {name}: expected numbers, found {file[name].dtype}")
    return classes


def _read_names(path: Path, file: h5py.File) -> list[str]:
    text = file["genres"].attrs.get("target_names", file.attrs.get("target_names"))
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        if is_names(names := json.loads(text)):
            return names
    raise UserError(f"{path}: attribute target_names: expected genres' names in JSON, found {short(text)}")


def _places(path: Path, file: h5py.File, ids: dict[str, list[str]]) -> dict[int, tuple[str, int]]:
    """Return the list of each listed row, and its number in that list."""
    rows = {film_id(film): row for row, film in enumerate(file["imdb_ids"][()].tolist())}
    if missing := [film for listed in ids.values() for film in listed if film not in rows]:
        raise UserError(f"{path}: imdb_ids: expected all films of the lists, found {len(missing)} not: {missing[0]}")
    return {rows[film]: (name, number) for name, listed in ids.items() for number, film in enumerate(listed)}


def _write_film(folder: Path, name: str, number: int, film: dict[str, np.ndarray]) -> None:
    label = film["genres"].astype(np.int32)
    arrays = {"image": to_rgb(film["images"]), "text": film["features"].astype(np.float32), "label": label}
    with faults_named(folder):
        for kind, array in arrays.items():
            np.save(folder / name / file_name(kind, number), array)


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to OUT at the end and removed after an error."""
    parent = out.resolve().parent
    with faults_named(parent):
        parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=parent)
    with temporary as name:
        folder = Path(name) / "out"
        for listed in LISTS:
            (folder / listed).mkdir(parents=True)
        yield folder
        with faults_named(out):
            folder.replace(out)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of h5py on a broken file into a UserError."""
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: expected a whole HDF5 file, found one that cannot be read ({error})") from error


if __name__ == "__main__":
    raise SystemExit(main())
