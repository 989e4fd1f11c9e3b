"""The raw form of MM-IMDB: the same as the prepared form of the same films; vectors of any length; broken folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.classification.examples import LabelledData
from datasets.classification.mmimdb import open_mmimdb
from datasets.feature_cache import FeatureCache, digests_of
from datasets.generated.mmimdb import write_mmimdb
from datasets.prepare_mmimdb import prepare_mmimdb
from main_darts_found_mmimdb import main as found
from main_pretrain_mmimdb import main as pretrain
from tests.datasets.classification.raw_films import write_raw
from tests.run_commands import named, run
from utils.errors import UserError
from utils.run_folder import read_json


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> LabelledData:
    folder = tmp_path_factory.mktemp("films")
    write_mmimdb(folder / "made", {"train": 6, "dev": 4, "test": 2}, 3)
    prepare_mmimdb(folder / "made/multimodal_imdb.hdf5", folder / "made/split.json", folder / "prepared")
    return open_mmimdb(str(folder / "prepared"))


@pytest.fixture(scope="module")
def raw(prepared, tmp_path_factory) -> Path:
    return write_raw(tmp_path_factory.mktemp("films") / "raw", prepared)


@pytest.fixture
def copy(raw, tmp_path) -> Path:
    return shutil.copytree(raw, tmp_path / "copy")


def test_the_raw_form_is_read_as_the_prepared_one(raw, prepared):
    data = open_mmimdb(str(raw))
    assert (data.name, data.classes, data.modalities) == (prepared.name, prepared.classes, prepared.modalities)
    assert (data.multi_label, data.lengths, data.warnings) == (True, {"text": 300}, ())
    for name, listed in prepared.records.items():
        assert [(film.name, film.label) for film in data.records[name]] == [(film.name, film.label) for film in listed]
        for theirs, ours in zip(listed, data.records[name], strict=True):
            expected, read = prepared.load(theirs, data.modalities, None), data.load(ours, data.modalities, None)
            assert expected.keys() == read.keys()
            assert all(torch.equal(expected[m], read[m]) and expected[m].dtype == read[m].dtype for m in read)


def test_other_posters_are_resized(copy):
    from PIL import Image

    data = open_mmimdb(str(copy))
    film = data.records["dev"][0]
    Image.new("RGB", (182, 268), (200, 30, 60)).save(film.paths["image"])
    poster = data.load(film, ("image",), None)["image"]
    assert poster.shape == (3, 256, 160)
    assert (poster.float().mean((1, 2)) - torch.tensor([200, 30, 60])).abs().max() < 3


def test_without_a_list_genres_are_those_of_the_train_list_by_number(raw, copy, prepared):
    (copy / "genres.json").unlink()
    train, other = (prepared.records[name][0].name for name in ("train", "test"))
    for film, genres in ((train, ["B", "A", "A"]), (other, ["A", "Z"])):
        (copy / f"dataset/{film}.json").write_text(json.dumps({"genres": genres}))
    for film in prepared.records["train"][1:]:
        (copy / f"dataset/{film.name}.json").write_text(json.dumps({"genres": ["C"]}))
    data = open_mmimdb(str(copy))
    assert data.classes == ["C", "A", "B"]
    assert data.records["train"][0].label == (1, 2)
    assert data.records["test"][0].label == (1,)
    line = data.warnings[0]
    assert line.startswith("genres left out, which no film of the train list has: ")
    assert line.endswith(", Z")


def test_films_without_a_class_are_counted(copy, prepared):
    for film, genres in zip(prepared.records["train"], ([], ["Z"], ["A"], ["A", "Z"])):
        (copy / f"dataset/{film.name}.json").write_text(json.dumps({"genres": genres}))
    (copy / "genres.json").write_text(json.dumps([*prepared.classes, "A"]))
    data = open_mmimdb(str(copy))
    assert [film.label == () for film in data.records["train"][:4]] == [True, True, False, False]
    number = sum(film.label == () for listed in data.records.values() for film in listed)
    assert data.warnings[1] == f"films without a genre that is a class: {number} of 12; they stay"


def test_a_list_of_genres_chooses_them(copy, prepared):
    (copy / "genres.json").write_text(json.dumps(prepared.classes[::-2]))
    data = open_mmimdb(str(copy))
    assert data.classes == prepared.classes[::-2]
    for listed, ours in zip(prepared.records.values(), data.records.values(), strict=True):
        for film, chosen in zip(listed, ours, strict=True):
            kept = {prepared.classes[n] for n in film.label} & set(data.classes)
            assert {data.classes[n] for n in chosen.label} == kept


def test_films_that_share_the_file_of_vectors_have_features_of_their_own(raw):
    films = [film for listed in open_mmimdb(str(raw)).records.values() for film in listed]
    cache = FeatureCache("pooled", {"text": ("text",)}, {}, digests_of(films))
    assert len({cache.key("text", film) for film in films}) == len(films)


def test_small_keeps_the_first_films_and_all_genres(copy, monkeypatch):
    (copy / "genres.json").unlink()
    monkeypatch.setattr("datasets.classification.mmimdb_raw.SMALL", 1)
    whole, small = open_mmimdb(str(copy)), open_mmimdb(str(copy), small=True)
    assert small.records == {name: listed[:1] for name, listed in whole.records.items()}
    assert small.classes == whole.classes


def test_vectors_of_another_length_are_learned_from(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_raw(tmp_path / "raw", prepared, length=7)
    common = [data, "--workers", 0, "--device", "cpu", "--no_report", "--batchsize", 3]
    run(pretrain, capsys, *common, "--modality", "text", "--epochs", 1, "--no-imagenet")
    argv = [*common, "--baseline", "text", "--epochs", 1, "--cache_features", "ram"]
    trained = named(run(found, capsys, *argv), "eval_exp_dir")
    weight = torch.load(trained / "best.pt", weights_only=True)["model"]["streams.text_encoder.first.linear.weight"]
    assert weight.shape[1] == 7
    text = run(found, capsys, *common, "--eval_exp_dir", trained, "--eval_part", "val")
    results = read_json(named(text, "results"))
    assert results["F1_weighted"] == pytest.approx(results["F1_weighted_val"])  # there with cached features


def _without(name: str):
    def change(folder: Path) -> None:
        arrays = dict(np.load(folder / "vectors.npz"))
        del arrays[name]
        np.savez(folder / "vectors.npz", **arrays)

    return change


def _features(change):
    def write(folder: Path) -> None:
        arrays = dict(np.load(folder / "vectors.npz"))
        np.savez(folder / "vectors.npz", **change(arrays))

    return write


def _not_finite(arrays: dict) -> dict:
    arrays["features"][2, 5] = np.nan
    return arrays


def _json(name: str, value: object):
    return lambda folder: (folder / name).write_text(json.dumps(value))


def _no_genres(folder: Path) -> None:
    (folder / "genres.json").unlink()
    for film in read_json(folder / "split.json")["train"]:
        (folder / f"dataset/{film}.json").write_text('{"genres": []}')


def _film(folder: Path, suffix: str) -> Path:
    return folder / f"dataset/{read_json(folder / 'split.json')['dev'][1]}.{suffix}"


WRONG = [
    (
        lambda folder: (folder / "split.json").unlink(),
        "mmimdb.json in it, as .*, or split.json, vectors.npz and dataset/",
    ),
    (_json("split.json", {"train": ["1"]}), "split.json: field dev: expected a list of film ids, found None"),
    (lambda folder: shutil.rmtree(folder / "dataset"), "dataset: expected a folder with a poster and a text file"),
    (lambda folder: _film(folder, "jpeg").unlink(), r"expected '\d+.jpeg', as split.json lists.*\(1 of 24 files"),
    (lambda folder: _film(folder, "json").unlink(), r"expected '\d+.json', as split.json lists.*\(1 of 24 files"),
    (lambda folder: _film(folder, "json").write_text("{"), r"\d+.json: expected a JSON file"),
    (
        lambda folder: _film(folder, "json").write_text('{"genres": "Drama"}'),
        r"\d+.json: field genres: expected a list",
    ),
    (_json("genres.json", {"Drama": 1}), "genres.json: expected a JSON list"),
    (_json("genres.json", ["Drama", "Drama"]), "genres.json: expected each genre once"),
    (_json("genres.json", ["Z"]), "split.json: field train: expected films with genres of genres.json, found none"),
    (_no_genres, "split.json: field train: expected films with genres, found none"),
    (lambda folder: (folder / "vectors.npz").unlink(), "vectors.npz: expected arrays of numpy, ids and features"),
    (lambda folder: (folder / "vectors.npz").write_bytes(b"PK no"), "vectors.npz: expected arrays of numpy"),
    (_without("features"), "vectors.npz: expected arrays of numpy, ids and features"),
    (_features(lambda a: a | {"features": a["features"][:3]}), r"expected ids \(N,\) and numbers features \(N, D\)"),
    (_features(lambda a: a | {"ids": a["ids"].astype(object)}), "vectors.npz: expected arrays of numpy"),
    (_features(lambda a: {name: array[1:] for name, array in a.items()}), "field ids: .*none for 1 of 12, the first"),
    (_features(lambda a: a | {"ids": np.roll(a["ids"], 1)[[0, 0, *range(2, 12)]]}), "each film once, found 1 again"),
    (_features(_not_finite), "field features: expected finite numbers, found others for"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_a_wrong_folder_is_refused_in_a_line(copy, change, words):
    change(copy)
    with pytest.raises(UserError, match=words) as error:
        open_mmimdb(str(copy))
    assert "\n" not in str(error.value)


def test_a_damaged_poster_names_its_file(copy):
    data = open_mmimdb(str(copy))
    film = data.records["dev"][1]
    Path(film.paths["image"]).write_bytes(b"no picture")
    with pytest.raises(UserError, match=rf"{film.name}.jpeg: expected an image"):
        data.load(film, ("image",), None)
    assert data.load(film, ("text",), None)["text"].shape == (300,)
