"""Writes films in the raw form of MM-IMDB."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.classification.examples import LabelledData


def write_raw(folder: Path, data: LabelledData, length: int | None = None) -> Path:
    """Write the films of a data set.

    Args:
        length: of the vectors, which are cut; None: all numbers.
    """
    (folder / "dataset").mkdir(parents=True)
    films = [example for listed in data.records.values() for example in listed]
    vectors = {}
    for film in films:
        read = data.load(film, data.modalities, None)
        vectors[film.name] = read["text"].numpy()[:length]
        poster = Image.fromarray(read["image"].permute(1, 2, 0).numpy())
        poster.save(folder / "dataset" / f"{film.name}.jpeg", format="png")  # which keeps all pixels
        text = {
            "title": "A film",
            "plot": ["Somebody wants something."],
            "genres": [data.classes[n] for n in film.label],
        }
        (folder / "dataset" / f"{film.name}.json").write_text(json.dumps(text))
    names = sorted(vectors)  # another order than that of the lists
    np.savez(folder / "vectors.npz", ids=np.array(names), features=np.stack([vectors[name] for name in names]))
    lists = {name: [film.name for film in listed] for name, listed in data.records.items()}
    (folder / "split.json").write_text(json.dumps(lists))
    (folder / "genres.json").write_text(json.dumps(data.classes))
    return folder
