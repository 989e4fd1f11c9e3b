"""Write made-up films in MM-IMDB's raw format: `multimodal_imdb.hdf5` and `split.json`.

    python -m datasets.generated.mmimdb OUT --train 2000 --dev 400 --test 1000 --seed 1
    python -m datasets.prepare_mmimdb OUT/multimodal_imdb.hdf5 OUT/split.json FOLDER

Every second of the 23 genres can be seen in the poster, as a mark of its own, the others shift the word vector, each in
a direction of its own; so either modality alone finds about half. Genres of one half are drawn without regard to those
of the other. Without the published file's `sequences` and `vgg_features`, which nothing here reads.

Posters have marks, each of which stands for a genre, on a dull ground with noise.

Shapes: N films, K = 23 genres.
"""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from datasets.classification.mmimdb import IMAGE, LISTS, TEXT
from datasets.generated import parse
from datasets.prepare_mmimdb import MEANS
from utils.args import command
from utils.files import faults_named, new_folder
from utils.run_folder import write_json

HDF5, SPLIT = "multimodal_imdb.hdf5", "split.json"
GENRES = ["Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror", "Documentary", "Mystery"]
GENRES += ["Sci-Fi", "Music", "Fantasy", "Family", "Biography", "War", "History", "Animation", "Musical", "Western"]
GENRES += ["Sport", "Short", "Film-Noir"]
SHARES = np.linspace(0.18, 0.05, len(GENRES))  # of films that have a genre: from common to rare, as the published
SEEN, TOLD = np.arange(0, len(GENRES), 2), np.arange(1, len(GENRES), 2)  # in the poster, in the words
SHIFT, NOISE = 1.0, 0.22  # of a word vector, by a genre and in each number
FIRST_ID = 100_000
CELLS = (4, 3)  # of a poster, in each of which one mark has room
RADIUS = (20, 28)  # of a mark, pixels
JITTER = 6  # pixels from a cell's middle
GRAIN = 14  # levels of 255
CONTRAST = (60, 110)  # levels of 255

Mark = Callable[[np.ndarray, np.ndarray], np.ndarray]  # y and x from the middle, in radii, to what is painted, -1 to 1
COLOURS = {"red": (230, 60, 50), "green": (50, 190, 70), "blue": (60, 90, 230), "yellow": (230, 210, 60)}


def _within(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(abs(y), abs(x)) < 1


def _waves(along: np.ndarray) -> np.ndarray:
    return np.sign(np.sin(2.5 * np.pi * along))


SHAPES: dict[str, Mark] = {
    "ring": lambda y, x: abs(np.hypot(y, x) - 0.75) < 0.22,
    "cross": lambda y, x: _within(y, x) & (np.minimum(abs(y), abs(x)) < 0.25),
    "triangle": lambda y, x: (abs(x) < (y + 1) / 2) & (abs(y) < 1),
    "frame": lambda y, x: _within(y, x) & (np.maximum(abs(y), abs(x)) > 0.6),
}
STRIPES: dict[str, Mark] = {
    "across": lambda y, x: _within(y, x) * _waves(y),
    "upright": lambda y, x: _within(y, x) * _waves(x),
    "slanted": lambda y, x: _within(y, x) * _waves((y + x) / np.sqrt(2)),
    "checks": lambda y, x: _within(y, x) * _waves(y) * _waves(x),
}
MARKS = (*COLOURS, *SHAPES, *STRIPES)


COUNTS = {
    name: (count, (1, 100_000), f"films of the list {name} ({count})") for name, count in zip(LISTS, (2000, 400, 1000))
}


@command
def main(argv: list[str]) -> None:
    out, numbers = parse("Write made-up films in MM-IMDB's raw format.", argv, "film", COUNTS)
    counts = {name: numbers[name] for name in LISTS}
    write_mmimdb(out, counts, numbers["seed"])
    print(f"mmimdb: {out / HDF5} and {SPLIT} ({sum(counts.values())} films)")


def write_mmimdb(out: Path, counts: dict[str, int], seed: int) -> None:
    """Write both files.

    Args:
        out: new or empty.
        counts: films of each list.
    Raises:
        UserError: OUT holds something or cannot be written.
    """
    new_folder(out)
    total = sum(counts.values())
    rows = np.random.default_rng((seed, 1)).permutation(total)  # films of a list lie anywhere in the file
    ids = [f"{FIRST_ID + 7 * row:07d}" for row in range(total)]
    ends = np.cumsum([0, *counts.values()])
    lists = {name: [ids[row] for row in rows[a:b]] for name, a, b in zip(counts, ends, ends[1:])}
    with faults_named(out), h5py.File(out / HDF5, "w") as file:
        _write_films(file, ids, seed)
    write_json(out / SPLIT, lists)


def _write_films(file: h5py.File, ids: list[str], seed: int) -> None:
    labels = draw_labels(len(ids), seed)
    packed = {"chunks": (1, *IMAGE), "compression": "gzip", "compression_opts": 1, "shuffle": True}
    images = file.create_dataset("images", (len(ids), *IMAGE), "int32", **packed)
    for row in tqdm(range(len(ids)), "posters", leave=False, disable=None):
        marks = np.flatnonzero(labels[row, SEEN]).tolist()
        images[row] = to_caffe(draw_poster(np.random.default_rng((seed, 0, row)), marks))
    file.create_dataset("features", data=word_vectors(labels, seed), compression="gzip")
    file.create_dataset("genres", data=labels.astype(np.int32), compression="gzip")
    file.create_dataset("imdb_ids", data=np.array(ids, "S7"))
    file["genres"].attrs["target_names"] = json.dumps(GENRES)


def draw_labels(num_films: int, seed: int) -> np.ndarray:
    """Draw multi-hot genres, bool (N, K): at least one of those seen and one of those told, apart from each other."""
    random, labels = np.random.default_rng((seed, 2)), np.zeros((num_films, len(GENRES)), bool)
    for half in (SEEN, TOLD):
        while (empty := np.flatnonzero(~labels[:, half].any(axis=1))).size:
            labels[np.ix_(empty, half)] = random.random((empty.size, half.size)) < SHARES[half]
    return labels


def word_vectors(labels: np.ndarray, seed: int) -> np.ndarray:
    """Draw the word vectors of genres (N, K), float32 (N, 300); those that are seen say nothing."""
    random = np.random.default_rng((seed, 3))
    directions = random.normal(size=(TOLD.size, *TEXT))
    directions *= SHIFT / np.linalg.norm(directions, axis=1, keepdims=True)
    return (labels[:, TOLD] @ directions + random.normal(0, NOISE, (len(labels), *TEXT))).astype(np.float32)


def to_caffe(poster: np.ndarray) -> np.ndarray:
    """Turn uint8 RGB (H, W, 3) into the published form: int32 (3, H, W), BGR minus means, rounded."""
    return (poster[..., ::-1] - np.array(MEANS)).round().astype(np.int32).transpose(2, 0, 1)


def draw_poster(random: np.random.Generator, marks: list[int]) -> np.ndarray:
    """Draw a poster with some of `MARKS`, each in a place of its own: uint8 RGB (256, 160, 3)."""
    y, x = np.indices(IMAGE[1:])
    cells = random.permutation(CELLS[0] * CELLS[1])
    low, high = random.uniform(60, 150, (2, 1)) + random.uniform(-25, 25, (2, 3))
    poster = low + (high - low) * (y / IMAGE[1:][0])[..., None]
    for mark in random.permutation(marks):
        row, column = divmod(int(cells[mark]), CELLS[1])
        middle = (np.array((row, column)) + 0.5) * IMAGE[1:] / CELLS + random.uniform(-JITTER, JITTER, 2)
        radius = random.uniform(*RADIUS)
        _paint(random, poster, MARKS[mark], (y - middle[0]) / radius, (x - middle[1]) / radius)
    return (poster + random.normal(0, GRAIN, poster.shape)).round().clip(0, 255).astype(np.uint8)


def _paint(random: np.random.Generator, poster: np.ndarray, mark: str, y: np.ndarray, x: np.ndarray) -> None:
    """Paint a colour over the poster, or make it lighter or darker where a shape or a stripe is."""
    if mark in COLOURS:
        poster[np.hypot(y, x) < 1] = np.array(COLOURS[mark]) + random.uniform(-20, 20, 3)
    else:
        strength = random.uniform(*CONTRAST) * random.choice((-1, 1))
        poster += strength * (SHAPES | STRIPES)[mark](y, x)[..., None]


if __name__ == "__main__":
    raise SystemExit(main())
