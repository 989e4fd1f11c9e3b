"""EgoGesture: forms of the annotation file, frames and places that both modalities share, and the generated set."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.classification.ego_gesture import open_ego
from datasets.generated import deal, used_labels
from datasets.generated.ego import NUM_SECOND, main, render_gesture, write_ego
from tests.datasets.made_clips import STEP, level, write_numbered_jpegs
from tests.datasets.small_sets import check_small
from utils.errors import UserError

BOTH = ("rgb", "depth")
RECORDING = "Subject01/Scene2/Color/rgb3"
ENTRY = {"subset": "training", "label": "wave", "start_frame": "11", "end_frame": "90"}


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """24 gestures of 12 classes."""
    folder = tmp_path_factory.mktemp("ego") / "set"
    assert main([str(folder), "--per_subject", "2", "--size", "32", "--seed", "2", "--classes", "12"]) == 0
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """One recording of 100 frames that show their number, and a ramp."""
    folder = tmp_path_factory.mktemp("numbered") / "set"
    for place, mode in ((RECORDING, "RGB"), ("Subject01/Scene2/Depth/depth3", "L")):
        write_numbered_jpegs(folder / place, range(1, 101), (120, 160), mode)
    return folder


def annotate(folder: Path, database, name: str = "egogestureall.json", labels=("wave", "point")) -> str:
    for path in folder.glob("*.json"):
        path.unlink()
    (folder / name).write_text(json.dumps({"labels": list(labels), "database": database}))
    return str(folder)


def test_lists(generated):
    data = open_ego(str(generated))
    assert {name: len(listed) for name, listed in data.records.items()} == {"train": 12, "dev": 6, "test": 6}
    groups = [{example.group for example in listed} for listed in data.records.values()]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 12
    assert (len(data.classes), data.multi_label, data.modalities) == (83, False, BOTH)
    for example in data.records["dev"]:
        assert example.name.startswith(example.group)
        for folder in example.paths.values():
            assert all((Path(folder) / f"{number:06d}.jpg").exists() for number in range(*example.span))


@pytest.mark.parametrize("seed", [None, 5])
def test_shapes(generated, seed):
    data = open_ego(str(generated))
    read = data.load(data.records["train"][0], BOTH, seed)
    assert (read["rgb"].shape, read["rgb"].dtype) == ((3, 32, 112, 112), torch.uint8)
    assert (read["depth"].shape, read["depth"].dtype) == ((1, 32, 112, 112), torch.uint8)
    assert torch.equal(data.load(data.records["train"][0], ("depth",), seed)["depth"], read["depth"])


def test_small_takes_the_first_of_each_subject(generated, monkeypatch):
    monkeypatch.setattr("datasets.classification.examples.SMALL", 2)
    check_small(open_ego(str(generated)), open_ego(str(generated), small=True))


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        (RECORDING, {"subset": "training", "annotations": {k: v for k, v in ENTRY.items() if k != "subset"}}),
        (f"{RECORDING}_wave_11", ENTRY),
        (f"{RECORDING}^7", ENTRY | {"start_frame": 11, "end_frame": 90}),
        ("any", ENTRY | {"path": RECORDING}),
        ("any", ENTRY | {"path": "Subject01/Scene2/Depth/depth3"}),
    ],
)
def test_forms_of_the_annotation(frames, name, entry):
    data = open_ego(annotate(frames, {name: entry}, "other.json"))
    (example,) = data.records["train"]
    assert (example.name, example.label, example.group, example.span) == (name, (0,), "Subject01", (11, 91))
    assert example.paths["rgb"] == str(frames / RECORDING)
    assert example.paths["depth"] == str(frames / "Subject01/Scene2/Depth/depth3")


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("span", [(11, 90), (1, 100), (40, 50), (100, 100)])
def test_both_show_the_same_frames_of_the_span(frames, seed, span):
    entry = ENTRY | dict(zip(("start_frame", "end_frame"), span))
    data = open_ego(annotate(frames, {RECORDING: entry}))
    read = data.load(data.records["train"][0], BOTH, seed)
    rgb, depth = (read[modality].float().mean(dim=0) for modality in BOTH)
    assert (rgb - depth).abs().max() <= 2  # the ramp too: both are cut out at one place
    across = depth.mean(dim=(0, 1))
    shift = (across[0] + across[-1]) / 2 - across.mean()
    assert shift.abs() < 1
    left = depth.mean(dim=1)[:, :5].mean(dim=1) - depth.mean(dim=(1, 2))
    assert left.std() < 1  # one place for all frames
    shown = (depth.mean(dim=(1, 2)) - level(0)) / STEP
    if seed is None:
        length = span[1] - span[0] + 1
        middles = [span[0] + int((place + 0.5) * length / 32) for place in range(32)]
        assert shown.tolist() == pytest.approx(middles, abs=0.6)
    else:
        shown = shown - shown.mean() + np.mean(span)  # a drawn place of the ramp is brighter or darker
        assert (shown.diff() > -0.6).all()
        assert shown.max() - shown.min() <= span[1] - span[0] + 0.6
    assert depth[-1].min() > 10


def test_the_middle_or_a_drawn_place(frames):
    data = open_ego(annotate(frames, {RECORDING: ENTRY}))
    example = data.records["train"][0]
    means = {
        seed: data.load(example, ("depth",), seed)["depth"][0, :, :, 0].float().mean() for seed in (None, *range(6))
    }
    assert len(set(means.values())) == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subset": "train"}, r"field subset: expected training, validation, testing, found 'train'"),
        ({"label": "wavy"}, r"field label: expected one of labels, found 'wavy' .did you mean wave"),
        ({"start_frame": "first"}, r"field start_frame: expected a frame's number, 0 to 999999, found 'first'"),
        ({"end_frame": None}, r"field end_frame: expected a frame's number, 0 to 999999, found None"),
        ({"end_frame": 5}, r"field end_frame: expected at least start_frame, 11, found 5"),
        ({"path": "../Subject01/Scene1/Color/rgb1"}, r"field path: expected SubjectXX/SceneY/Color/rgbN, found"),
        ({"annotations": []}, r"expected subset and annotations, found"),
    ],
)
def test_faults_of_entries(frames, change, words):
    with pytest.raises(UserError, match=rf"egogestureall.json: '{RECORDING}': {words}"):
        open_ego(annotate(frames, {RECORDING: ENTRY | change}))


@pytest.mark.parametrize(
    ("labels", "database", "words"),
    [
        ([], {RECORDING: ENTRY}, r"field labels: expected names of gestures, found \[\]"),
        (["wave", "wave"], {RECORDING: ENTRY}, r"field labels: expected each name once"),
        (["wave"], {}, r"field database: expected gestures by name, found \{\}"),
        (["wave"], {"Subject09/Scene1/Color/rgb1": ENTRY}, r"Color/rgb1: expected a folder of frames, found none"),
    ],
)
def test_faults_of_the_file(frames, labels, database, words):
    with pytest.raises(UserError, match=words):
        open_ego(annotate(frames, database, labels=labels))


def test_wrong_folder(tmp_path):
    with pytest.raises(UserError, match=r"expected EgoGesture's egogestureall.json, or one other \*.json, found none"):
        open_ego(str(tmp_path))
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=r"found a.json, b.json"):
        open_ego(str(tmp_path))


@pytest.mark.parametrize("modality", BOTH)
@pytest.mark.parametrize("fault", ["missing", "cut", "empty"])
def test_a_bad_frame_is_named(generated, tmp_path, modality, fault):
    folder = shutil.copytree(generated, tmp_path / "copy")
    data = open_ego(str(folder))
    example = data.records["test"][0]
    for number in range(*example.span):
        path = Path(example.paths[modality]) / f"{number:06d}.jpg"
        content = path.read_bytes()
        path.unlink()
        if fault != "missing":
            path.write_bytes(content[: len(content) // 2] if fault == "cut" else b"")
    with pytest.raises(UserError, match=rf"{example.group}/.*/\d{{6}}.jpg: expected an image"):
        data.load(example, BOTH, None)


def test_generated_again_is_the_same(generated, tmp_path):
    write_ego(tmp_path, 2, 32, 2, 12)
    files = [path for path in generated.rglob("*") if path.is_file()]
    assert len(files) == sum(path.is_file() for path in tmp_path.rglob("*"))
    assert all(path.read_bytes() == (tmp_path / path.relative_to(generated)).read_bytes() for path in files)


def test_each_modality_shows_its_own_factor_alone():
    (_, rgb, depth), (_, same, other), (_, another, depth_again) = (
        render_gesture(first * NUM_SECOND + second, 24, (1,)) for first, second in ((4, 3), (4, 6), (7, 3))
    )
    assert np.array_equal(rgb, same)
    assert not np.array_equal(depth, other)
    assert not np.array_equal(rgb, another)
    assert np.array_equal(depth, depth_again)


@pytest.mark.parametrize("num", [4, 12, 83])
def test_what_one_factor_can_say(num):
    labels = used_labels(num, 83, NUM_SECOND)
    dealt = deal(labels, 2 * num, np.random.default_rng(1))
    assert sorted(dealt) == sorted(2 * labels)
    counts = np.zeros((9, NUM_SECOND), int)
    for label in dealt:
        counts[divmod(label, NUM_SECOND)] += 1
    rows, columns = counts.any(axis=1).sum(), counts.any(axis=0).sum()
    assert (rows > 1, columns > 1) == (True, True)
    assert counts.max(axis=1).sum() / len(dealt) == rows / num  # right, at best, of one who knows the first
    assert counts.max(axis=0).sum() / len(dealt) == columns / num
