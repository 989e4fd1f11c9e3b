"""Predicting: the same as a test finds, on files, folders and videos; what is missing or spoilt is said."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from torchvision.io import write_png

from datasets.classification.video import Video, side_by_side, video_writer
from datasets.images import read_rgb, read_thermal
from main_darts_found_fad import main as fad_found
from main_darts_found_flira import main as found
from tasks.detection.predictor import Predictor, read_facts
from tests.run_commands import named, refused, run
from tools.predict import OF_SENSOR
from tools.predict import main as predict
from utils.errors import UserError

FOLDERS = {"rgb": "images_rgb_test/data", "thermal": "images_thermal_test/data"}


@pytest.fixture(scope="module")
def networks() -> dict[str, Path]:
    """Runs by baseline: trained when first asked for."""
    return {}


@pytest.fixture
def network(networks, in_work, tiny_flir, tiny_config, capsys):
    def trained(baseline: str = "sum") -> Path:
        if baseline not in networks:
            text = run(found, capsys, tiny_flir, "--baseline", baseline, "--config", tiny_config, "--epochs", 1)
            networks[baseline] = named(text, "eval_exp_dir").resolve()
        return networks[baseline]

    return trained


@pytest.fixture
def data(tmp_path, tiny_flir) -> Path:
    """A copy of the folders of test pictures, thermal/ and rgb/."""
    for sensor, folder in FOLDERS.items():
        shutil.copytree(tiny_flir / folder, tmp_path / sensor)
    return tmp_path


def pictures(data: Path) -> list[tuple[Path, Path]]:
    return list(zip(sorted((data / "rgb").iterdir()), sorted((data / "thermal").iterdir()), strict=True))


def plain(objects: list[dict]) -> list[tuple]:
    return sorted((o["image_id"], o["category_id"], o["score"], *o["bbox"]) for o in objects)


def test_folders_give_what_a_test_finds(network, data, tiny_flir, tiny_config, capsys):
    folder = network()
    results = named(run(found, capsys, tiny_flir, "--eval_exp_dir", folder, "--config", tiny_config), "results")
    tested = json.loads((results.parent / "detections.json").read_text())
    truth = json.loads((tiny_flir / "meta/thermal/flir_test.json").read_text())
    stems = {Path(image["file_name"]).stem.removesuffix("_PreviewData"): image["id"] for image in truth["images"]}
    argv = ["--eval_exp_dir", folder, "--rgb", data / "rgb", "--thermal", data / "thermal", "--out", data / "out"]
    file = named(run(predict, capsys, *argv, "--score", 0, "--batchsize", 3), "detections")
    content, coco = json.loads(file.read_text()), COCO(str(file))
    assert [c["name"] for c in content["categories"]] == ["person", "bike", "car"]
    assert len(coco.getImgIds()) == len(stems) == 4
    ids = {image["id"]: stems[image["file_name"]] for image in content["images"]}
    ours = [item | {"image_id": ids[item["image_id"]]} for item in content["annotations"]]
    assert plain(ours) == plain(tested)
    assert {path.name for path in (data / "out").iterdir()} == {"detections.json", *(f"{stem}.jpg" for stem in stems)}
    assert read_rgb(str(next((data / "out").glob("*.jpg")))).shape == (3, 64, 160)


def test_pictures_of_one_camera_give_what_a_test_finds(fad, tmp_path, capsys):
    """Beside landscape pictures, which the test has, a portrait one: its canvas is the transposed one."""
    argv = [fad.data, "--config", fad.config, "--eval_exp_dir", fad.run]
    tested = json.loads((named(run(fad_found, capsys, *argv), "results").parent / "detections.json").read_text())
    names, pictures = (fad.data / "ImageSets/Main/test.txt").read_text().split(), tmp_path / "pictures"
    pictures.mkdir()
    for name in names:
        shutil.copy(fad.data / f"JPEGImages/{name}.jpg", pictures)
    portrait = read_rgb(str(pictures / f"{names[0]}.jpg")).rot90(1, (1, 2)).contiguous()
    write_png(portrait, str(pictures / "portrait.png"))
    argv = ["--eval_exp_dir", fad.run, "--rgb", pictures, "--out", tmp_path / "out", "--score", 0]
    text = run(predict, capsys, *argv)
    assert f"{len(names) + 1} pictures" in text
    assert "no --thermal" not in text
    content = json.loads(named(text, "detections").read_text())
    ids = {image["id"]: image["file_name"] for image in content["images"]}
    found = [item | {"image_id": ids[item["image_id"]]} for item in content["annotations"]]
    assert plain([item for item in found if item["image_id"] != "portrait"]) == plain(tested)
    boxes = [item["bbox"] for item in found if item["image_id"] == "portrait"]
    assert max(x + width for x, _, width, _ in boxes) <= 64
    assert 64 < max(y + height for _, y, _, height in boxes) <= 80
    predictor = Predictor(fad.run)
    assert predictor.sample(predictor.pair(portrait, None))["image_size"] == (160, 96)


@pytest.mark.parametrize(
    ("stem", "name"),
    [("FLIR_1_RGB", "FLIR_1"), ("a-thermal", "a"), ("a_PreviewData", "a"), ("thermal", "thermal"), ("stair", "stair")],
)
def test_only_a_whole_word_names_the_sensor(stem, name):
    assert OF_SENSOR.sub("", stem) == name


def test_one_pair_and_python_agree(network, data, capsys):
    rgb, thermal = pictures(data)[0]
    argv = ["--eval_exp_dir", network(), "--rgb", rgb, "--thermal", thermal, "--out", data / "out", "--score", 0.01]
    content = json.loads(named(run(predict, capsys, *argv), "detections").read_text())
    predictor = Predictor(str(network()))
    objects = predictor(str(rgb), str(thermal), score=0.01)
    names = {c["id"]: c["name"] for c in content["categories"]}
    told = [(names[a["category_id"]], a["score"]) for a in content["annotations"]]
    assert told == [(o["class"], round(o["score"], 6)) for o in objects]
    assert objects == predictor(read_rgb(str(rgb)), read_thermal(str(thermal)), score=0.01)
    assert objects == sorted(objects, key=lambda o: -o["score"])
    assert len(objects) > 0
    assert all(0 <= o["box_xyxy"][0] < o["box_xyxy"][2] <= 80 for o in objects)
    most = objects[0]["score"]
    assert [o["score"] for o in predictor(str(rgb), str(thermal), score=most)] == [most]


def test_a_missing_sensor_is_black_and_said(network, data, capsys):
    rgb, thermal = pictures(data)[0]
    predictor = Predictor(str(network()))
    black = torch.zeros(3, 64, 80, dtype=torch.uint8)
    assert predictor(None, str(thermal), score=0) == predictor(black, str(thermal), score=0)
    text = run(predict, capsys, "--eval_exp_dir", network(), "--thermal", thermal, "--out", data / "out")
    assert "no --rgb: the network sees black in its place" in text
    assert read_rgb(str(next((data / "out").glob("*.jpg")))).shape == (3, 64, 80)
    rgb.unlink()
    argv = ["--eval_exp_dir", network(), "--rgb", data / "rgb", "--thermal", data / "thermal", "--out", data / "more"]
    text = run(predict, capsys, *argv)
    assert "1 of 4 pairs have no rgb picture" in text
    assert "4 pairs" in text


def test_a_network_of_one_sensor_passes_over_the_other(network, data, capsys):
    rgb, thermal = pictures(data)[0]
    argv = ["--eval_exp_dir", network("thermal"), "--thermal", thermal, "--score", 0]
    alone = named(run(predict, capsys, *argv, "--out", data / "alone"), "detections").read_text()
    text = run(predict, capsys, *argv, "--rgb", rgb, "--out", data / "both")
    assert "--rgb: not looked at: the network (thermal) reads thermal alone" in text
    assert named(text, "detections").read_text() == alone
    with pytest.raises(UserError, match="expected a picture of thermal, which the network reads, found none"):
        Predictor(str(network("thermal")))(str(rgb))


def test_an_rgb_picture_of_another_size_is_laid_on_the_thermal_one(network, data):
    rgb, thermal = (read(str(path)) for read, path in zip((read_rgb, read_thermal), pictures(data)[0], strict=True))
    predictor = Predictor(str(network()))
    double = rgb.repeat_interleave(2, 1).repeat_interleave(2, 2)
    pair = predictor.pair(double, thermal)
    assert pair.size == (64, 80)
    assert (pair.rgb.float() - rgb.float()).abs().mean() < 6  # noise, smoothed
    with pytest.raises(UserError, match="expected an aligned pair, whose pictures are of one shape"):
        predictor.pair(double[:, :64], thermal)


def write_video(path: Path, frames: list[torch.Tensor], rate: int = 10) -> Path:
    with video_writer(path, Fraction(rate)) as write:
        for frame in frames:
            write(frame.expand(3, -1, -1))
    return path


def test_videos_are_paired_in_time(network, data, capsys):
    pairs = [(read_rgb(str(a)), read_thermal(str(b))) for a, b in pictures(data)]
    thermal = write_video(data / "thermal.mp4", [t for _, t in pairs])
    rgb = write_video(data / "rgb.mp4", [r for r, _ in pairs for _ in range(2)], 20)  # twice as many in a second
    text = run(predict, capsys, "--eval_exp_dir", network(), "--rgb", rgb, "--thermal", thermal, "--out", data / "out")
    content = json.loads(named(text, "detections").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{n:06d}" for n in range(4)]
    shown = list(Video(data / "out/video.mp4", grey=False))
    assert [frame.shape for _, frame in shown] == [(3, 64, 160)] * 4
    for (a, b), (r, t) in zip(side_by_side(Video(thermal, True), Video(rgb, False)), pairs, strict=True):
        assert (a.float() - t.float()).abs().mean() < 12  # compressed
        assert (b.float() - r.float()).abs().mean() < 25
    short = write_video(data / "short.mp4", [r for r, _ in pairs[:2]])
    assert len(list(side_by_side(Video(thermal, True), Video(short, False)))) in (2, 3)


def test_a_picture_that_cannot_be_read_costs_its_own_pair_alone(network, data, capsys):
    rgb, _ = pictures(data)[1]
    rgb.write_bytes(rgb.read_bytes()[:200])
    argv = ["--eval_exp_dir", network(), "--rgb", data / "rgb", "--thermal", data / "thermal", "--out", data / "out"]
    assert predict([str(a) for a in argv]) == 2
    err = capsys.readouterr().err
    assert rgb.name in err
    assert "all others are in" in err
    assert len(json.loads((data / "out/detections.json").read_text())["images"]) == 3


def test_mistakes_are_one_line_and_nothing_is_overwritten(network, data, capsys):
    rgb, _ = pictures(data)[0]
    start = ["--eval_exp_dir", network()]
    new = ["--out", data / "new"]
    assert "expected --rgb, --thermal or both, found neither" in refused(predict, capsys, *start, *new)
    wrong = refused(predict, capsys, *start, "--rgb", rgb, "--thermal", data / "thermal", *new)
    assert "found a file for --rgb and a folder for --thermal" in wrong
    assert "found nothing" in refused(predict, capsys, *start, "--rgb", data / "nowhere", *new)
    (data / "empty").mkdir()
    assert "expected pictures (.jpg" in refused(predict, capsys, *start, "--rgb", data / "empty", *new)
    (data / "broken.mp4").write_bytes(b"no video")
    assert "broken.mp4: expected a video" in refused(predict, capsys, *start, "--rgb", data / "broken.mp4", *new)
    full = refused(predict, capsys, *start, "--rgb", rgb, "--out", data / "rgb")
    assert "expected a new or an empty folder, found one with files" in full
    assert "best.pt" in refused(predict, capsys, "--eval_exp_dir", data, "--rgb", rgb, *new)
    shutil.copy(rgb, data / "rgb" / f"{rgb.stem}.png")
    twice = refused(predict, capsys, *start, "--rgb", data / "rgb", *new)
    assert "expected one picture of" in twice


FACTS = {"classes": ["person"], "thermal_counts": None}
FACTS["normalization"] = {m: [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]] for m in ("rgb", "thermal")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", []),
        ("classes", ["a", "b", "c"]),
        ("classes", [1]),
        ("thermal_counts", [3, 1]),
        ("thermal_counts", [1, float("inf")]),
        ("normalization", {"rgb": [[0, 0, 0], [1, 1, 1]]}),
        ("normalization", {m: [[0.5] * 3, [0.0] * 3] for m in ("rgb", "thermal")}),
    ],
)
def test_facts_of_a_checkpoint_are_looked_at(name, value):
    assert read_facts(FACTS, 2, ("rgb", "thermal"), "f")["normalization"]["rgb"] == ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    with pytest.raises(UserError, match=rf"^f: {name}: expected"):
        read_facts(FACTS | {name: value}, 2, ("rgb", "thermal"), "f")
