"""Write made-up films in MM-IMDB's raw format: `multimodal_imdb.hdf5` and `split.json`.

    python -m datasets.generated.mmimdb OUT --train 2000 --dev 400 --test 1000 --seed 1
    python -m datasets.prepare_mmimdb OUT/multimodal_imdb.hdf5 OUT/split.json FOLDER

Every second of the 23 genres can be seen in the poster, as a mark of its own, the others shift the word vector, each in
a direction of its own; so either modality alone finds about half. Genres of one half are drawn without regard to those
of the other. Without the published file's `sequences` and `vgg_features`, which nothing here reads.

Shapes: N films, K = 23 genres.
"""

import json
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from datasets.classification.mmimdb import IMAGE, LISTS, TEXT
from datasets.generated import parse
from datasets.generated.posters import draw_poster
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


if __name__ == "__main__":
    raise SystemExit(main())
