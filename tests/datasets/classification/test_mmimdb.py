"""MM-IMDB: the generated raw files, what is prepared of them, and reading that; broken files leave nothing behind."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datasets.classification.mmimdb import open_mmimdb
from datasets.generated.mmimdb import GENRES, MARKS, SEEN, TOLD, draw_labels, draw_poster, main, to_caffe, word_vectors
from datasets.prepare_mmimdb import main as prepare
from datasets.prepare_mmimdb import prepare_mmimdb, to_rgb
from utils.errors import UserError

COUNTS = {"train": 5, "dev": 2, "test": 3}
SEED = 7


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mmimdb") / "raw"
    options = [text for name, count in COUNTS.items() for text in (f"--{name}", str(count))]
    assert main([str(folder), *options, "--seed", str(SEED)]) == 0
    return folder


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "set"
    assert prepare([str(raw / "multimodal_imdb.hdf5"), str(raw / "split.json"), str(out)]) == 0
    return out


def test_round_trip(raw, prepared):
    data = open_mmimdb(str(prepared))
    ids = json.loads((raw / "split.json").read_text())
    assert {name: [e.name for e in listed] for name, listed in data.records.items()} == ids
    assert (data.classes, data.modalities, data.multi_label) == (GENRES, ("image", "text"), True)
    with h5py.File(raw / "multimodal_imdb.hdf5") as file:
        rows = file["imdb_ids"].asstr()[()].tolist()
    labels = draw_labels(10, SEED)
    texts = torch.from_numpy(word_vectors(labels, SEED))
    for example in [example for listed in data.records.values() for example in listed]:
        row, read = rows.index(example.name), data.load(example, data.modalities, None)
        assert example.label == tuple(np.flatnonzero(labels[row]))
        poster = draw_poster(np.random.default_rng((SEED, 0, row)), np.flatnonzero(labels[row, SEEN]).tolist())
        assert read["image"].dtype == torch.uint8
        assert torch.equal(read["image"], torch.from_numpy(poster).permute(2, 0, 1))
        assert torch.equal(read["text"], texts[row])
        assert torch.equal(data.load(example, ("text",), 3)["text"], read["text"])


def test_to_rgb_undoes_what_vgg_needs():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    bgr = pixels[..., ::-1].transpose(2, 0, 1) - np.array((103.939, 116.779, 123.68)).reshape(3, 1, 1)
    for image in (bgr, bgr.astype(np.float32), to_caffe(pixels)):
        assert np.array_equal(to_rgb(image), pixels.transpose(2, 0, 1))
    assert np.array_equal(to_rgb(bgr * 0 + 900), np.full((3, 6, 5), 255))


def test_small_takes_the_first_of_each_list(prepared, monkeypatch):
    monkeypatch.setattr("datasets.classification.mmimdb.SMALL", 2)
    whole, small = open_mmimdb(str(prepared)), open_mmimdb(str(prepared), small=True)
    assert small.records == {name: listed[:2] for name, listed in whole.records.items()}


@pytest.mark.parametrize("form", ["ints", "texts", "short texts"])
@pytest.mark.parametrize("where", ["file", "genres"])
def test_forms_of_ids_and_names(raw, prepared, tmp_path, form, where):
    path = Path(shutil.copy(raw / "multimodal_imdb.hdf5", tmp_path))
    with h5py.File(path, "a") as file:
        ids = file["imdb_ids"].asstr()[()].tolist()
        del file["imdb_ids"]
        forms = {"ints": [int(film) for film in ids], "texts": ids, "short texts": [str(int(film)) for film in ids]}
        file["imdb_ids"] = forms[form]
        if where == "file":
            file.attrs["target_names"] = file["genres"].attrs["target_names"]
            del file["genres"].attrs["target_names"]
    assert prepare_mmimdb(path, raw / "split.json", tmp_path / "out") == COUNTS
    for file in (file for file in prepared.rglob("*") if file.is_file()):
        assert file.read_bytes() == (tmp_path / "out" / file.relative_to(prepared)).read_bytes()


def without(name):
    def change(path):
        with h5py.File(path, "a") as file:
            del file[name]

    return change


def other_shape(path):
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = np.zeros((10, 100))


def other_names(path):
    with h5py.File(path, "a") as file:
        file["genres"].attrs["target_names"] = "Drama"


def cut(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def spoil_a_chunk(path):
    with h5py.File(path) as file:
        place = file["images"].id.get_chunk_info(9)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut(0), "expected a whole HDF5 file, found one that cannot be read"),
        (cut(0.5), "expected a whole HDF5 file, found one that cannot be read"),
        (spoil_a_chunk, "expected a whole HDF5 file, found one that cannot be read"),
        (lambda path: path.write_text("text"), "expected a whole HDF5 file"),
        (lambda path: path.unlink(), "expected a whole HDF5 file"),
        (without("images"), "expected MM-IMDB's data set 'images', found features, genres, imdb_ids"),
        (other_shape, r"features: expected shape \(10, 300\), found \(10, 100\)"),
        (other_names, "attribute target_names: expected genres' names in JSON, found 'Drama'"),
    ],
)
def test_broken_hdf5(raw, tmp_path, change, words):
    path = Path(shutil.copy(raw / "multimodal_imdb.hdf5", tmp_path))
    change(path)
    with pytest.raises(UserError, match=rf"multimodal_imdb.hdf5: {words}"):
        prepare_mmimdb(path, raw / "split.json", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir() if file != path] == []


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("{", "expected a JSON file"),
        ({"train": ["0100000"]}, "split.json: field dev: expected a list of film ids, found None"),
        ({"train": ["1"], "dev": ["2"], "test": ["0000001"]}, "expected each film in one list, found 1 again"),
        ({"train": ["1"], "dev": ["2"], "test": ["3"]}, "expected all films of the lists, found 3 not: 0000001"),
    ],
)
def test_bad_split(raw, tmp_path, split, words):
    path = tmp_path / "split.json"
    path.write_text(split if isinstance(split, str) else json.dumps(split))
    with pytest.raises(UserError, match=words):
        prepare_mmimdb(raw / "multimodal_imdb.hdf5", path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_with_files_is_not_written_to(raw, prepared, tmp_path, capsys):
    files = str(raw / "multimodal_imdb.hdf5"), str(raw / "split.json")
    assert prepare([*files, str(prepared)]) == 2
    assert "expected a new or empty folder, found files in it" in capsys.readouterr().err
    assert prepare([*files, str(tmp_path)]) == 0
    assert (tmp_path / "mmimdb.json").exists()
    assert main([str(tmp_path)]) == 2


def _text(path: Path):
    path.write_text("no array")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("mmimdb.json", Path.unlink, "expected mmimdb.json in it, as `python -m datasets.prepare_mmimdb"),
        ("mmimdb.json", _text, "expected a JSON file"),
        ("mmimdb.json", lambda path: path.write_text("{}"), "field classes: expected names of genres, found None"),
        ("dev/label_000001.npy", Path.unlink, "label_000001.npy: expected an array of numpy, found none to read"),
        ("dev/label_000001.npy", _text, "label_000001.npy: expected an array of numpy, found none to read"),
        ("dev/image_000001.npy", Path.unlink, "image_000001.npy: expected one for each film of mmimdb.json"),
        (
            "dev/label_000001.npy",
            lambda path: np.save(path, np.full(23, 2)),
            "label_000001.npy: expected 0 or 1 for each genre",
        ),
        (
            "dev/label_000001.npy",
            lambda path: np.save(path, np.zeros(22, int)),
            r"expected int32 or int64 or uint8 \(23,\), found int64 \(22,\)",
        ),
    ],
)
def test_faults_when_opened(prepared, tmp_path, file, change, words):
    folder = shutil.copytree(prepared, tmp_path / "copy")
    change(folder / file)
    with pytest.raises(UserError, match=words):
        open_mmimdb(str(folder))


@pytest.mark.parametrize("change", [_text, cut(0), cut(0.5), lambda path: np.save(path, np.zeros((3, 256, 160)))])
def test_a_bad_image_names_its_file(prepared, tmp_path, change):
    folder = shutil.copytree(prepared, tmp_path / "copy")
    data = open_mmimdb(str(folder))
    change(folder / "dev" / "image_000001.npy")
    with pytest.raises(UserError, match=r"dev/image_000001.npy: expected"):
        data.load(data.records["dev"][1], ("image",), None)


def test_wrong_folder(tmp_path):
    with pytest.raises(UserError, match="expected mmimdb.json in it"):
        open_mmimdb(str(tmp_path / "nothing"))


def test_generated_again_is_the_same(raw, tmp_path):
    assert main([str(tmp_path), *(f"--{name}={count}" for name, count in COUNTS.items()), f"--seed={SEED}"]) == 0
    for path in raw.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_half_of_the_genres_are_told_by_each_modality():
    assert len(MARKS) == len(SEEN) == 12
    assert sorted([*SEEN, *TOLD]) == list(range(23))
    labels = draw_labels(4000, 1)
    assert labels[:, SEEN].any(axis=1).all()
    assert labels[:, TOLD].any(axis=1).all()
    assert 0.4 < labels[:, SEEN].sum() / labels.sum() < 0.6
    across = np.corrcoef(labels.T.astype(float))[np.ix_(SEEN, TOLD)]
    assert abs(across).max() < 5 / np.sqrt(4000)  # five standard deviations of what independent ones show


def test_words_say_nothing_of_what_is_seen():
    labels = draw_labels(30, 1)
    other = labels.copy()
    other[:, SEEN] = draw_labels(30, 2)[:, SEEN]
    assert np.array_equal(word_vectors(labels, 1), word_vectors(other, 1))
    other[:, TOLD] = draw_labels(30, 2)[:, TOLD]
    assert not np.array_equal(word_vectors(labels, 1), word_vectors(other, 1))


def test_every_mark_can_be_seen():
    plain = draw_poster(np.random.default_rng(1), []).astype(int)
    for mark in range(len(MARKS)):
        changed = abs(draw_poster(np.random.default_rng(1), [mark]).astype(int) - plain).max(axis=2) > 60
        assert 200 < changed.sum() < 0.2 * changed.size
