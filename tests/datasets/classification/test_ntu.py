"""NTU RGB+D: lists, pairs, the common crop in time, skeletons, re-encoding, and what the generated clips tell."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datasets.classification.clips import WHOLE, draw_crop, read_frames
from datasets.classification.ntu import FOLDERS, SUBJECTS, list_of, open_ntu
from datasets.classification.skeletons import read_skeletons
from datasets.generated import deal, used_labels
from datasets.generated.bodies import AXES, LIMBS, skeleton_text
from datasets.generated.moving import COLOURS
from datasets.generated.ntu import NUM_SECOND, main, write_clip, write_ntu
from datasets.prepare_ntu import main as prepare
from tests.datasets.made_clips import numbers_of, real_data, write_numbered_skeleton, write_numbered_video
from tests.datasets.small_sets import check_small
from utils.errors import UserError

OFFICIAL = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
BOTH = ("rgb", "skeleton")
NAME = "S001C001P001R001A001"


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """28 clips of 8 classes, one of which has no skeleton."""
    folder = tmp_path_factory.mktemp("ntu") / "set"
    assert main([str(folder), "--per_subject", "1", "--size", "64", "--seed", "3", "--classes", "8"]) == 0
    return folder


@pytest.fixture(scope="module")
def numbered_once(tmp_path_factory) -> Path:
    """One clip that shows the numbers of its frames: 100 of the video, 50 of the skeleton."""
    folder = tmp_path_factory.mktemp("numbered") / "set"
    write_numbered_video(folder / FOLDERS["rgb"] / f"{NAME}_rgb.avi", 100)
    write_numbered_skeleton(folder / FOLDERS["skeleton"] / f"{NAME}.skeleton", 50)
    return folder


@pytest.fixture
def numbered(numbered_once, tmp_path) -> Path:
    """A copy of that."""
    return shutil.copytree(numbered_once, tmp_path / "numbered")


def moved(tmp_path: Path, generated: Path) -> Path:
    return shutil.copytree(generated, tmp_path / "copy")


def names(data) -> set[str]:
    return {example.name for listed in data.records.values() for example in listed}


def test_subjects():
    assert SUBJECTS["train"] | SUBJECTS["dev"] | SUBJECTS["rest"] == OFFICIAL
    assert sum(map(len, SUBJECTS.values())) == len(OFFICIAL)
    assert {subject for subject in range(1, 41) if list_of(subject) == "test"} == set(range(1, 41)) - OFFICIAL


def test_lists_labels_and_the_missing_skeleton(generated):
    data = open_ntu(str(generated))
    assert {name: len(listed) > 0 for name, listed in data.records.items()} == dict.fromkeys(data.records, True)
    for origin, listed in data.records.items():
        for example in listed:
            assert list_of(int(example.group[1:])) == origin
            assert example.group == example.name[8:12]
            assert data.classes[example.label[0]] == example.name[16:]
            assert all(example.name in path for path in example.paths.values())
    missing = (generated / "missing_skeletons.txt").read_text().split()
    assert len(names(data)) == 27 == 28 - len(missing)
    assert len(data.warnings) == 1
    assert missing[0] in data.warnings[0]
    assert len(data.classes) == 60
    assert not data.multi_label


@pytest.mark.parametrize("seed", [None, 4])
def test_shapes(generated, seed):
    data = open_ntu(str(generated))
    example = data.records["dev"][0]
    read = data.load(example, BOTH, seed)
    assert (read["rgb"].shape, read["rgb"].dtype) == ((3, 8, 64, 64), torch.uint8)
    assert (read["skeleton"].shape, read["skeleton"].dtype) == ((3, 32, 25, 2), torch.float32)
    for modality in BOTH:
        alone = data.load(example, (modality,), seed)
        assert list(alone) == [modality]
        assert torch.equal(alone[modality], read[modality])


def test_small_takes_the_first_of_each_subject(generated, monkeypatch):
    monkeypatch.setattr("datasets.classification.examples.SMALL", 2)
    check_small(open_ntu(str(generated)), open_ntu(str(generated), small=True))


def test_pairs_are_of_one_name(generated, tmp_path):
    folder = moved(tmp_path, generated)
    before = names(open_ntu(str(folder)))
    lost = sorted(before)[:2]
    (folder / FOLDERS["rgb"] / f"{lost[0]}_rgb.avi").unlink()
    (folder / FOLDERS["skeleton"] / f"{lost[1]}.skeleton").unlink()
    (folder / FOLDERS["rgb"] / "notes.txt").write_text("")
    (folder / FOLDERS["rgb"] / "S001C001P001R001A061_rgb.avi").write_text("")
    (folder / FOLDERS["skeleton"] / "S001C001P001R001A061.skeleton").write_text("")
    data = open_ntu(str(folder))
    assert names(data) == before - set(lost)
    for listed in data.records.values():
        for example in listed:
            assert [Path(path).name.partition(".")[0].removesuffix("_rgb") for path in example.paths.values()] == [
                example.name
            ] * 2
    text = " ".join(data.warnings)
    assert f"skeleton without video: 1 ({lost[0]})" in text
    assert f"video without skeleton: 1 ({lost[1]})" in text
    assert "actions after A060: 1 (S001C001P001R001A061)" in text


def test_missing_list_under_its_public_name(generated, tmp_path):
    folder = moved(tmp_path, generated)
    chosen = sorted(names(open_ntu(str(folder))))[3]
    (folder / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text(
        f"302 samples have missing skeletons.\nThese are:\n\n{chosen}\n\nS010C001P007R001A001\n"
    )
    data = open_ntu(str(folder))
    assert chosen not in names(data)
    assert "listed as missing skeletons: 2" in data.warnings[0]
    (folder / "missing_skeletons.txt").write_text("S001C002P005R002A008\nsomething\n")
    with pytest.raises(UserError, match=r"missing_skeletons.txt: line 2: expected a clip, .*, found 'something'"):
        open_ntu(str(folder))


def test_label_map(generated, tmp_path):
    folder = moved(tmp_path, generated)
    (folder / "label_map.txt").write_text("".join(f"action {number}\n" for number in range(60)))
    assert open_ntu(str(folder)).classes[59] == "action 59"
    (folder / "label_map.txt").write_text("drink water\n")
    with pytest.raises(UserError, match=r"label_map.txt: expected 60 different names of actions, found 1 of 1"):
        open_ntu(str(folder))


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_one_crop_in_time_for_both(numbered, seed):
    data = open_ntu(str(numbered))
    read = data.load(data.records["train"][0], BOTH, seed)
    times = read["skeleton"][0, :, 0, 0]
    first, last = times[0].item(), times[-1].item()
    assert times.diff().std() < 1e-4
    begin, end = first / 50, (last + 1) / 50  # shares of the clip
    for place, frame in enumerate(numbers_of(read["rgb"])):  # the skeleton's crop is known to a frame in 50
        assert begin + place * (end - begin) / 8 - 0.04 <= frame / 100 <= begin + (place + 1) * (end - begin) / 8 + 0.04
    if seed is None:
        assert (first, last) == (0, 49)
        assert numbers_of(read["rgb"]) == [6, 18, 31, 43, 56, 68, 81, 93]
    else:
        assert (begin, end) == pytest.approx(draw_crop(seed), abs=0.02)
        assert (begin, end) != (0, 1)


def write_frames(path: Path, frames: list[dict[str, np.ndarray]]) -> str:
    """Write the joints (25, 3) of the bodies that are there in each frame."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for name, joints in bodies.items():
            lines += [name, *skeleton_text([joints[None]]).splitlines()[3:]]
    path.write_text("\n".join(lines))
    return str(path)


def test_the_two_persons_who_move_most(tmp_path):
    random = np.random.default_rng(1)
    scales = {"still": 0, "little": 0.01, "most": 1, "some": 0.1}
    bodies = {name: 2 + scale * random.normal(size=(5, 25, 3)) for name, scale in scales.items()}
    orders = [list(random.permutation(list(bodies))) for _ in range(5)]
    frames = [{name: bodies[name][frame] for name in order} for frame, order in enumerate(orders)]
    read = read_skeletons(write_frames(tmp_path / "a.skeleton", frames), 5, WHOLE)
    for person, name in enumerate(("most", "some")):
        assert torch.allclose(read[..., person], torch.from_numpy(bodies[name]).float().permute(2, 0, 1), atol=1e-6)


def test_a_missing_person_and_missing_frames(tmp_path):
    joints = np.random.default_rng(1).normal(size=(5, 25, 3))
    frames = [{"1": joints[frame]} if frame in (0, 1, 3) else {} for frame in range(5)]
    read = read_skeletons(write_frames(tmp_path / "a.skeleton", frames), 5, WHOLE)
    expected = torch.from_numpy(joints).float().permute(2, 0, 1)
    assert torch.allclose(read[:, [0, 1, 3], :, 0], expected[:, [0, 1, 3]], atol=1e-6)
    assert torch.allclose(read[:, 2, :, 0], (expected[:, 1] + expected[:, 3]) / 2, atol=1e-6)
    assert read[:, 4].abs().max() == 0
    assert read[..., 1].abs().max() == 0


def test_interpolation_in_time(tmp_path):
    path = str(write_numbered_skeleton(tmp_path / "a.skeleton", 11))
    assert torch.allclose(read_skeletons(path, 32, WHOLE)[0, :, 7, 0], torch.linspace(0, 10, 32), atol=1e-5)
    assert read_skeletons(path, 32, (0.2, 0.6))[0, :, 0, 0].aminmax() == (2, 6)
    path = str(write_numbered_skeleton(tmp_path / "one.skeleton", 1))
    assert read_skeletons(path, 32, WHOLE).shape == (3, 32, 25, 2)


def _changed(number: int, line: str):
    return lambda lines: [*lines[: number - 1], line, *lines[number:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [], r"line 1: expected the number of frames.*, found the end of the file"),
        (lambda lines: lines[:40], r"line 41: expected a joint, found the end of the file"),
        (lambda lines: lines[:29], r"line 30: expected a frame's number of bodies.*, found the end of the file"),
        (_changed(1, "many"), r"line 1: expected the number of frames, up to 100000, found 'many'"),
        (_changed(1, "999999999"), r"line 1: expected the number of frames, up to 100000, found '999999999'"),
        (_changed(2, "1.5"), r"line 2: expected a frame's number of bodies, up to 99, found '1.5'"),
        (_changed(3, ""), r"line 3: expected a line on a body, found an empty line"),
        (_changed(4, "20"), r"line 4: expected 25 joints, found '20'"),
        (_changed(7, "0.1 0.2"), r"line 7: expected a joint's x, y and z, found '0.1 0.2'"),
        (_changed(7, "0.1 nan 0.3 0"), r"line 7: expected a joint's x, y and z, found '0.1 nan"),
        (lambda lines: ["2", "0", "0"], r"expected a body, found none in 2 frames"),
    ],
)
def test_malformed_skeletons(tmp_path, change, words):
    path = tmp_path / f"{NAME}.skeleton"
    lines = write_numbered_skeleton(path, 3).read_text().splitlines()
    path.write_text("\n".join(change(lines)))
    with pytest.raises(UserError, match=rf"{NAME}.skeleton: {words}"):
        read_skeletons(str(path), 32, WHOLE)


def test_a_cut_video_names_its_file(numbered):
    data = open_ntu(str(numbered))
    path = numbered / FOLDERS["rgb"] / f"{NAME}_rgb.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"{NAME}_rgb.avi: expected a video"):
        data.load(data.records["train"][0], BOTH, None)


def test_videos_of_other_sizes_are_refused(numbered):
    other = NAME.replace("P001", "P008")
    write_numbered_video(numbered / FOLDERS["rgb"] / f"{other}_rgb.avi", 4, (32, 32))
    write_numbered_skeleton(numbered / FOLDERS["skeleton"] / f"{other}.skeleton", 4)
    data = open_ntu(str(numbered))
    with pytest.raises(UserError, match=r"P008.*_rgb.avi: expected 64x64 px, as the first video, found 32x32"):
        data.load(data.records["train"][1], ("rgb",), None)
    write_numbered_video(numbered / FOLDERS["rgb"] / f"{NAME}_rgb.avi", 4, (32, 64))
    with pytest.raises(UserError, match=r"expected a square video, as `python -m datasets.prepare_ntu` makes it"):
        open_ntu(str(numbered))


def test_wrong_folders(tmp_path):
    with pytest.raises(UserError, match=r"nturgb\+d_rgb_256x256_30: expected a folder of \*_rgb.avi, found none"):
        open_ntu(str(tmp_path))
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir()
    with pytest.raises(UserError, match="expected clips with video and skeleton of one name, found no files of clips"):
        open_ntu(str(tmp_path))


def test_prepare(tmp_path, capsys):
    raw, out = tmp_path / "nturgb+d_rgb", tmp_path / FOLDERS["rgb"]
    write_numbered_video(raw / f"{NAME}_rgb.avi", 40, (96, 128))
    write_numbered_video(raw / "S001C001P002R001A001_rgb.avi", 20, (96, 128), rate=15)
    (raw / "S001C001P000R001A001_rgb.avi").write_text("no video")
    cut = write_numbered_video(raw / "S001C001P003R001A001_rgb.avi", 40, (96, 128))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert prepare(["--dir", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert "2 that cannot be decoded: S001C001P000R001A001_rgb.avi (" in text
    assert "S001C001P003R001A001_rgb.avi" in text
    assert sorted(path.name for path in out.iterdir()) == [f"{NAME}_rgb.avi", "S001C001P002R001A001_rgb.avi"]
    for path in out.iterdir():
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate, stream.frames) == (256, 256, 30, 40)
        shown = numbers_of(read_frames(str(path), range))
        assert shown == ([number // 2 for number in range(40)] if "P002" in path.name else list(range(40)))
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    for path in (raw / "S001C001P000R001A001_rgb.avi", cut):
        path.unlink()
    assert prepare(["--dir", str(tmp_path)]) == 0
    assert "(0 videos written, 2 were there)" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_prepare_without_videos(tmp_path, capsys):
    assert prepare(["--dir", str(tmp_path)]) == 2
    assert "nturgb+d_rgb: expected videos *_rgb.avi, found none" in capsys.readouterr().err


def test_generated_again_is_the_same(generated, tmp_path):
    write_ntu(tmp_path / "again", 1, 64, 3, 8)
    files = sorted(path.relative_to(generated) for path in generated.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path / "again") for path in tmp_path.rglob("*") if path.is_file())
    assert all((generated / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


def test_each_modality_shows_its_own_factor_alone(tmp_path):
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir()
    pairs = {"a": (2, 3), "same video": (2, 8), "same skeleton": (5, 3)}
    for name, (first, second) in pairs.items():
        write_clip(tmp_path, name, first * NUM_SECOND + second, 32, (1,), True)
    videos = [(tmp_path / FOLDERS["rgb"] / f"{name}_rgb.avi").read_bytes() for name in pairs]
    texts = [(tmp_path / FOLDERS["skeleton"] / f"{name}.skeleton").read_text() for name in pairs]
    assert (videos[0] == videos[1], videos[0] == videos[2]) == (True, False)
    assert (texts[0] == texts[1], texts[0] == texts[2]) == (False, True)


def test_factors_can_be_read_from_the_clips(generated):
    data = open_ntu(str(generated))
    for example in [example for listed in data.records.values() for example in listed]:
        first, second = divmod(example.label[0], NUM_SECOND)
        read = data.load(example, BOTH, None)
        pixels = read["rgb"].float().permute(1, 2, 3, 0)
        coloured = (pixels.amax(-1) - pixels.amin(-1)) > 70
        colour = pixels[coloured].mean(dim=0)
        assert (colour - torch.tensor(COLOURS).float()).norm(dim=1).argmin() == first // 2
        middles = torch.stack([mask.nonzero().float().mean(dim=0) for mask in coloured])
        assert (middles.std(dim=0)[0] > middles.std(dim=0)[1]) == (first % 2)
        motion = read["skeleton"][..., 0].var(dim=1)  # (3, V), of the person who moves
        limbs = torch.stack([motion[:, list(limb)].mean(dim=1) for limb in LIMBS.values()])
        assert divmod(limbs[:, : len(AXES)].argmax().item(), len(AXES)) == divmod(second, len(AXES))


@pytest.mark.parametrize("num", [4, 8, 12, 60])
def test_one_factor_says_nothing_about_the_other(num):
    labels = used_labels(num, 60, NUM_SECOND)
    dealt = deal(labels, 3 * num, np.random.default_rng(1))
    assert sorted(dealt) == sorted(3 * labels)
    counts = np.zeros((6, NUM_SECOND), int)
    for label in dealt:
        counts[divmod(label, NUM_SECOND)] += 1
    rows, columns = counts.any(axis=1).sum(), counts.any(axis=0).sum()
    assert (rows > 1, columns > 1) == (True, True)
    assert counts.max(axis=1).sum() == len(dealt) // columns  # right, at best, of one who knows the first
    assert counts.max(axis=0).sum() == len(dealt) // rows


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--classes", "7"], "--classes: expected 60, or a product of 2 to 6 and 2 to 10, found 7"),
        (["--size", "63"], "--size: expected an even number of pixels, found 63"),
        (["--per_subject", "0"], "--per_subject: expected a whole number 1 to 1000, found 0"),
    ],
)
def test_options_of_the_generator(tmp_path, capsys, option, words):
    assert main([str(tmp_path / "out"), *option]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("file", "num_frames"), [(f"{NAME}_rgb.avi", 103), ("demo_skeleton.mp4", 72)])
def test_real_clip(tmp_path, file, num_frames):
    """Two clips of NTU RGB+D, as they come and with its name put back."""
    data = real_data("videos and ntu_lists")
    (tmp_path / "nturgb+d_rgb").mkdir()
    shutil.copy(data / "videos" / file, tmp_path / "nturgb+d_rgb" / f"{NAME}_rgb.avi")
    assert prepare(["--dir", str(tmp_path)]) == 0
    write_numbered_skeleton(tmp_path / FOLDERS["skeleton"] / f"{NAME}.skeleton", num_frames)
    for name in ("NTU_RGBD_samples_with_missing_skeletons.txt", "NTU_RGBD120_samples_with_missing_skeletons.txt"):
        shutil.copy(data / "ntu_lists" / name, tmp_path)
    shutil.copy(data / "ntu_lists" / "label_map_ntu60.txt", tmp_path / "label_map.txt")
    opened = open_ntu(str(tmp_path))
    assert opened.classes[0] == "drink water"
    assert opened.warnings == ()
    for seed in (None, 1):
        frames = opened.load(opened.records["train"][0], ("rgb",), seed)["rgb"]
        assert frames.shape == (3, 8, 256, 256)
        assert frames.float().mean(dim=(0, 2, 3)).min() > 30  # of each frame, the last one too
