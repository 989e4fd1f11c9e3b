"""The manual docs/own_data.md: its YAML, JSON and XML are read, its commands run."""

import json
import re
import shlex
from pathlib import Path

import pytest

import main_darts_found_flira
import main_darts_searchable_flira
import main_pretrain_flira
from datasets.detection.names import DATA_SETS
from datasets.detection.opening import open_data_set
from datasets.detection.own_set import FIELDS, XML_FIELDS
from datasets.detection.voc_xml import parse_voc
from tasks.detection.predictor import Predictor
from tests.run_commands import named, run
from tests.tiny_sets import make_tiny_own
from tools import check_data, dataset_stats, profile, report

REPO = Path(__file__).resolve().parent.parent
PAGE = (REPO / "docs/own_data.md").read_text(encoding="utf-8")
MAINS = {
    "tools.check_data": check_data.main,
    "tools.dataset_stats": dataset_stats.main,
    "main_pretrain_flira": main_pretrain_flira.main,
    "main_darts_searchable_flira": main_darts_searchable_flira.main,
    "main_darts_found_flira": main_darts_found_flira.main,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def rename(folder: Path, old: str, new: str) -> None:
    for path in folder.rglob("*.*"):
        path.rename(path.with_name(re.sub(old, new, path.name)))


def make_described(folder: Path, text: str) -> Path:
    """Write a set as the description says: its lists, form and image names."""
    form = "voc" if "xml:" in text else "coco"
    numbers = {"train": 12, "test": 4} | ({"val": 3} if "val:" in text else {})
    make_tiny_own(folder, form, per_list="thermal: thermal," not in text, numbers=numbers)
    if "names:" in text:
        rename(folder / "rgb", r"\.jpg", "_rgb.jpg")
        rename(folder / "thermal", r"\.jpg", "_ir.jpg")
        rename(folder / "xml", r"\.xml", "_ir.xml")
        for path in (folder / "lists").iterdir():
            path.write_text(path.read_text().replace("\n", "_ir\n"))
        for path in (folder / "annotations").iterdir():
            path.write_text(path.read_text().replace(".jpg", "_ir.jpg"))
    (folder / "my_set.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("number", range(3))
def test_descriptions_are_read(tmp_path, number):
    assert len(blocks("yaml")) == 3
    folder = make_described(tmp_path, blocks("yaml")[number])
    data = open_data_set(folder, str(folder / "my_set.yaml"))
    sizes = {origin: len(records) for origin, records in data.records.items()}
    assert sizes == {"train": 12, "test": 4} | ({"val": 3} if number == 2 else {})


def test_every_field_is_in_the_manual():
    table = PAGE.partition("## All fields")[2].partition("```")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(FIELDS)
    assert all(f"{field}:" in blocks("yaml")[2] for field in set(FIELDS) - {"xml", *XML_FIELDS})


def test_every_known_set_is_in_the_manual():
    table = PAGE.partition("## Sets that need no YAML")[2]
    assert all(f"`{name}`" in table for name in DATA_SETS)


def test_annotation_examples_hold_the_same_box(tmp_path):
    (coco,), (voc,) = blocks("json"), blocks("xml")
    (tmp_path / "000001.xml").write_text(voc)
    (image,) = parse_voc({"000001": tmp_path / "000001.xml"}, ["person", "car"], {}).images
    content = json.loads(coco)
    (x, y, width, height) = content["annotations"][0]["bbox"]
    assert image.boxes_xyxy.tolist() == [[x, y, x + width, y + height]]
    (told,) = content["images"]
    assert (told["file_name"], told["width"], told["height"]) == (image.file_name, image.width, image.height)


def make_single_images(folder: Path) -> str:
    """Write a Pascal VOC folder of RGB images; return its path."""
    make_tiny_own(folder, "voc", per_list=False, numbers={"train": 12, "test": 4})
    (folder / "rgb").rename(folder / "JPEGImages")
    (folder / "xml").rename(folder / "Annotations")
    (folder / "ImageSets").mkdir()
    (folder / "lists").rename(folder / "ImageSets/Main")
    return str(folder)


def test_commands_run_to_the_end(tmp_path, tiny_config, capsys, monkeypatch):
    """All commands of the manual, in its order, with the tiny config in place of the laptop's."""
    make_described(tmp_path / "pairs", blocks("yaml")[0]).joinpath("my_set.yaml").rename(tmp_path / "my_set.yaml")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "laptop.yaml").symlink_to(tiny_config)
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^    python (?:-m )?([\w.]+?)(?:\.py)? (<dir> .*)$", PAGE, re.MULTILINE)
    assert {name for name, _ in found} == set(MAINS)
    known = {"<dir>": "pairs"}
    for name, options in found:
        if "--dataset voc" in options:
            options = options.replace("<dir>", make_single_images(tmp_path / "voc"))
        for placeholder, value in known.items():
            options = options.replace(placeholder, value)
        text = run(MAINS[name], capsys, *shlex.split(options))
        for kind, value in re.findall(r"^(search|eval)_exp_dir: (.*)$", text, re.MULTILINE):
            known[f"<dir of {kind} exp>"] = value
    (results,) = tmp_path.glob("runs/test-*/results.json")
    assert {"AP", "AP50_person", "AP50_car"} <= json.loads(results.read_text()).keys()


def test_a_network_of_single_images_is_used_like_one_of_pairs(undrawn, tmp_path, tiny_config, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = [make_single_images(tmp_path / "voc"), "--dataset", "voc", "--config", tiny_config]
    run(MAINS["main_pretrain_flira"], capsys, *common, "--modality", "rgb")
    command = MAINS["main_darts_found_flira"]
    trained = named(run(command, capsys, *common, "--baseline", "rgb", "--epochs", 1), "eval_exp_dir")
    results = named(run(command, capsys, *common, "--eval_exp_dir", trained), "results")
    tested = json.loads((results.parent / "detections.json").read_text())
    predictor = Predictor(trained, "cpu")
    assert predictor.sensors == ("rgb",)
    (picture, *_) = sorted({one["image_id"] for one in tested})
    path = next((tmp_path / "voc/JPEGImages").glob(f"{Path(str(picture)).stem}.*"))
    expected = sorted(one["score"] for one in tested if one["image_id"] == picture)
    assert sorted(one["score"] for one in predictor(path, score=0)) == pytest.approx(expected, abs=2e-5)
    assert "rgb stream" in run(profile.main, capsys, "--eval_exp_dir", trained, "--rounds", 1, "--device", "cpu")
    assert "report: " in run(report.main, capsys, trained)
