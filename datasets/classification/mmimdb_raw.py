"""The raw form of MM-IMDB: a poster and a text file per film, and the vectors of all plots in one file.

FOLDER has `split.json` (lists of film ids: train, dev and test), `dataset/ID.jpeg`, `dataset/ID.json` with the film's
`genres`, and `vectors.npz`: `ids`, N texts, and `features`, numbers (N, D) with any D. Plots themselves are not read.

Genres are those of `genres.json`, a list of names, in its order. Without that file they are all genres of the train
list, from the most to the least common, equally common ones by name. Other genres of films are left out and named.

Shapes: N films, D numbers of a plot.
"""

import zipfile
import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from datasets.classification.examples import SMALL, Example, LabelledData
from datasets.images import read_rgb
from utils.errors import UserError, short
from utils.run_folder import read_json
from utils.untrusted import checked, is_list, is_name, is_names, names_in, plain_file

SPLIT, GENRES, VECTORS, FILMS = "split.json", "genres.json", "vectors.npz", "dataset"
LISTS = ("train", "dev", "test")
MODALITIES = ("image", "text")
IMAGE = (3, 256, 160)
ID_DIGITS = 7
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error)


def open_raw(folder: Path, small: bool = False) -> LabelledData:
    """Index the folder: lists, genres and vectors are read, posters only looked up.

    Args:
        folder: that of `split.json`.
        small: the first films of each list alone.
    Raises:
        UserError: a file is missing or wrong, or a listed film has no poster, genres or vector, or no film
            of the train list has a class; names the file.
    """
    ids = read_split(folder / SPLIT)
    films = [film for listed in ids.values() for film in listed]
    _check_files(folder / FILMS, films)
    genres = {film: _genres(folder / FILMS / f"{film}.json") for film in films}
    classes = _classes(folder / GENRES, [genres[film] for film in ids["train"]])
    places, vectors = read_vectors(folder / VECTORS)
    if missing := [film for film in films if film not in places]:
        found = f"none for {len(missing)} of {len(films)}, the first {short(missing[0])}"
        raise UserError(f"{folder / VECTORS}: field ids: expected a vector for each film of {SPLIT}, found {found}")

    def example(film: str) -> Example:
        files = {"image": str(folder / FILMS / f"{film}.jpeg"), "text": str(folder / VECTORS)}
        label = tuple(number for number, name in enumerate(classes) if name in genres[film])
        return Example(film, files, label, span=(places[film], places[film] + 1))

    records = {name: [example(film) for film in listed[: SMALL if small else None]] for name, listed in ids.items()}
    return LabelledData(
        "mmimdb",
        classes,
        True,
        MODALITIES,
        records,
        partial(load_raw, vectors),
        lengths={"text": vectors.shape[1]},
        warnings=(*_unused(folder / GENRES, genres, classes), *_unlabelled(genres, classes)),
    )


def load_raw(vectors: np.ndarray, example: Example, modalities: tuple[str, ...], seed: int | None) -> dict[str, Tensor]:
    """Read "image", uint8 RGB (3, 256, 160), resized with antialiasing, and "text", float32 (D,); nothing is drawn."""
    read = {}
    for modality in modalities:
        if modality == "image":
            read[modality] = F.resize_image(read_rgb(example.paths[modality]), list(IMAGE[1:]), antialias=True)
        else:
            read[modality] = torch.from_numpy(vectors[slice(*example.span)][0])
    return read


def read_split(path: Path) -> dict[str, list[str]]:
    """Return the ids of each list; UserError where a list is missing or a film is listed twice."""
    data = read_json(path)
    for name in LISTS:
        place = f"{path}: field {name}"
        checked(data.get(name), lambda films: is_names(films, (str, int)), "a list of film ids", place)
    ids = {name: [film_id(film) for film in data[name]] for name in LISTS}
    every = [film for listed in ids.values() for film in listed]
    if len(set(every)) < len(every):
        raise UserError(f"{path}: expected each film in one list, found {len(every) - len(set(every))} again")
    return ids


def film_id(value: bytes | str | int) -> str:
    """Return the id of a film as files are named, IMDb's with all of its digits, as in "0111161"."""
    text = value.decode("ascii", errors="replace") if isinstance(value, bytes) else str(value)
    return text.strip().zfill(ID_DIGITS)


def read_vectors(path: Path) -> tuple[dict[str, int], np.ndarray]:
    """Return the row of each film, and the vectors, float32 (N, D).

    Raises:
        UserError: missing or damaged, without one of its arrays, or with numbers that are not finite.
    """
    try:
        with zipfile.ZipFile(plain_file(path)):  # np.load also takes a single array
            pass
        with np.load(path, allow_pickle=False) as file:
            ids, vectors = file["ids"], file["features"]
    except UNREADABLE as error:
        raise UserError(f"{path}: expected arrays of numpy, ids and features, found none to read ({error})") from error
    if vectors.dtype.kind not in "iuf" or vectors.ndim != 2 or ids.shape != vectors.shape[:1] or not vectors.size:
        found = f"ids {ids.shape}, features {vectors.dtype} {vectors.shape}"
        raise UserError(f"{path}: expected ids (N,) and numbers features (N, D), found {found}")
    vectors = vectors.astype(np.float32)
    films = [film_id(film) for film in ids.tolist()]
    if odd := [film for film, row in zip(films, vectors) if not np.isfinite(row).all()]:
        raise UserError(f"{path}: field features: expected finite numbers, found others for {short(odd[0])}")
    if len(set(films)) < len(films):
        raise UserError(f"{path}: field ids: expected each film once, found {len(films) - len(set(films))} again")
    return {film: row for row, film in enumerate(films)}, vectors


def _check_files(folder: Path, films: list[str]) -> None:
    there = set(names_in(folder, "a folder with a poster and a text file of each film"))
    wanted = [f"{film}.{suffix}" for film in films for suffix in ("jpeg", "json")]
    if missing := [name for name in wanted if name not in there]:
        number = f"{len(missing)} of {len(wanted)} files are missing"
        raise UserError(f"{folder}: expected {short(missing[0])}, as {SPLIT} lists that film, found none ({number})")


def _genres(path: Path) -> list[str]:
    expected = "a list of names"
    return checked(
        read_json(path).get("genres"), lambda names: is_list(names, is_name), expected, f"{path}: field genres"
    )


def _classes(path: Path, genres: list[list[str]]) -> list[str]:
    """Return the names in `genres.json`, or without that file those of the train list's films, the most common first.

    Raises:
        UserError: the file is wrong, or no film of the train list has a class.
    """
    counts, listed = Counter(name for film in genres for name in dict.fromkeys(film)), ""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    if path.exists():
        names, listed = checked(read_json(path, kind=list), is_names, "names of genres", str(path)), f" of {path.name}"
        checked(names, lambda names: len(set(names)) == len(names), "each genre once", str(path))
    if not counts.keys() & set(names):
        raise UserError(f"{path.parent / SPLIT}: field train: expected films with genres{listed}, found none")
    return names


def _unused(path: Path, genres: dict[str, list[str]], classes: list[str]) -> tuple[str, ...]:
    """Return a line that names the genres of films that are no classes; none if there are no such genres."""
    unused = sorted({name for film in genres.values() for name in film} - set(classes))
    source = f"{path} does not list" if path.exists() else "no film of the train list has"
    return (f"genres left out, which {source}: {', '.join(unused)}",) if unused else ()


def _unlabelled(genres: dict[str, list[str]], classes: list[str]) -> tuple[str, ...]:
    """Return a line with the number of films without any class; none if there are no such films."""
    number = sum(not set(names) & set(classes) for names in genres.values())
    return (f"films without a genre that is a class: {number} of {len(genres)}; they stay",) if number else ()
