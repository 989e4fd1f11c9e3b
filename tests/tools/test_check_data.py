"""The command that checks a data set: every planted fault once, and nothing else."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import write_jpeg

from datasets.detection.opening import open_data_set
from tests.run_commands import refused, run
from tests.tiny_data import make_tiny_flir
from tests.tools.plant_faults import FAULTS, TEN, add_box, edit
from tools.check_data import main


def check(folder: Path, capsys, *argv) -> dict:
    """Run the command and return its JSON; exit code and the line on stderr must fit it."""
    out = folder.parent / "report.json"
    code = main([str(folder), "--json", str(out), "--workers", "2", *map(str, argv)])
    text = capsys.readouterr()
    report = json.loads(out.read_text())
    number = len(report["problems"])
    assert f"\nproblems: {number}\n" in text.out
    assert all(problem["message"] in text.out for problem in report["problems"])
    assert all(remark in text.out for remark in report["remarks"])
    assert code == (2 if number else 0)
    assert text.err == (f"error: {folder}: {number} problem{'s' * (number > 1)}\n" if number else "")
    return report


def kinds(report: dict) -> Counter:
    return Counter(problem["kind"] for problem in report["problems"])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A set of its own to spoil; each pair has other noise, so none is there twice."""
    return make_tiny_flir(tmp_path / "data", num_train=12, num_test=2)


def contents(folder: Path) -> dict:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}


def test_a_sound_set_has_no_problems_and_is_left_alone(tiny_flir, tmp_path, capsys):
    before = contents(tiny_flir)
    out = tmp_path / "report.json"
    text = run(main, capsys, tiny_flir, "--image_size", "64x80", "--anchor_scale", "1.7", "--json", out)
    assert "problems: 0" in text
    assert max(map(len, text.replace(str(tiny_flir), "").splitlines())) <= 120
    report = json.loads(out.read_text())
    assert report["problems"] == report["remarks"] == []
    assert list(report["anchors"]["shares"]) == ["1", "1.5", "1.7", "2", "2.5", "3", "4", "5", "6", "8"]
    assert contents(tiny_flir) == before


def test_counts_are_those_of_the_annotation_files(tiny_flir, tmp_path, capsys):
    out = tmp_path / "report.json"
    run(main, capsys, tiny_flir, "--json", out)
    lists = json.loads(out.read_text())["lists"]
    for origin, one in lists.items():
        truth = json.loads((tiny_flir / f"meta/thermal/flir_{origin}.json").read_text())
        names = {c["id"]: c["name"] for c in truth["categories"]}
        found = Counter(names[a["category_id"]] for a in truth["annotations"])
        assert one["images"] == one["pairs"] == len(truth["images"])
        assert one["boxes"] == len(truth["annotations"])
        assert one["classes"] == {name: found[name] for name in names.values()}
        assert one["images_without_boxes"] == len(truth["images"]) - len({a["image_id"] for a in truth["annotations"]})
        assert one["sizes"] == {"80x64": len(truth["images"])}
        areas = np.array([a["bbox"][2] * a["bbox"][3] for a in truth["annotations"]])
        assert one["box_px"]["small"] == (areas < 32**2).sum()
        assert one["box_px"]["width"][1] == np.median([a["bbox"][2] for a in truth["annotations"]])
        assert one["thermal_bits"] == [8]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_found_once_and_nothing_else(folder, capsys, fault):
    record = open_data_set(folder).records["train"][3]
    fault(folder, record)
    report = check(folder, capsys)
    assert kinds(report) == {FAULTS[fault]: 1}
    assert report["remarks"] == []


def test_all_faults_at_once(folder, capsys):
    records = open_data_set(folder).records["train"]
    for fault, record in zip(TEN, records):
        fault(folder, record)
    assert kinds(check(folder, capsys)) == Counter(FAULTS[fault] for fault in TEN)


def test_a_list_that_cannot_be_read_is_one_fault(folder, capsys):
    path = folder / "meta/thermal/flir_test.json"
    path.write_text(path.read_text()[:200])
    report = check(folder, capsys)
    assert kinds(report) == {"annotations": 1}
    assert report["remarks"] == []
    assert report["lists"]["test"]["pairs"] == 0


def test_a_missing_folder_is_one_fault(folder, capsys):
    shutil.rmtree(folder / "images_rgb_train")
    assert kinds(check(folder, capsys)) == {"missing images": 1}


def test_one_name_in_two_lists_is_one_fault(folder, capsys):
    train = json.loads((folder / "meta/thermal/flir_train.json").read_text())
    edit(folder, "test", lambda data: data["images"].append(train["images"][0]))
    for modality in ("rgb", "thermal"):
        name = train["images"][0]["file_name"].replace(
            "PreviewData.jpeg", {"rgb": "RGB.jpg"}.get(modality, "PreviewData.jpeg")
        )
        shutil.copy(folder / f"images_{modality}_train/data/{name}", folder / f"images_{modality}_test/data")
    assert kinds(check(folder, capsys)) == {"pairs in two lists": 1}


def test_a_pair_copied_over_one_of_another_size_is_one_fault(tmp_path, capsys):
    folder = make_tiny_flir(tmp_path / "data", num_train=12, num_test=2, size=(64, 80))
    small = make_tiny_flir(tmp_path / "small", num_train=12, num_test=2, size=(32, 40))
    edit(folder, "test", lambda data: data.update(json.loads((small / "meta/thermal/flir_test.json").read_text())))
    for modality in ("rgb", "thermal"):
        shutil.rmtree(folder / f"images_{modality}_test")
        shutil.copytree(small / f"images_{modality}_test", folder / f"images_{modality}_test")
    assert not kinds(check(folder, capsys))
    data = open_data_set(folder)
    for modality in ("rgb", "thermal"):
        source, target = (data.records[o][0].paths[modality] for o in ("train", "test"))
        shutil.copy(source, target)
    assert kinds(check(folder, capsys)) == {"pairs in two lists": 1}


def test_many_boxes_of_an_image_that_is_not_listed_are_one_fault(folder, capsys):
    edit(folder, "train", lambda data: data["images"].pop(0))
    report = check(folder, capsys)
    assert kinds(report) == {"annotations": 1}
    assert "found 'FLIR_00001_PreviewData'" in report["problems"][0]["message"]


def test_an_image_whose_id_is_wrong_is_one_fault(folder, capsys):
    edit(folder, "train", lambda data: data["images"][1].update(id=3.5))
    assert kinds(check(folder, capsys)) == {"annotations": 1}


def test_both_image_folders_missing_are_two_faults(folder, capsys):
    for modality in ("rgb", "thermal"):
        shutil.rmtree(folder / f"images_{modality}_train")
    assert kinds(check(folder, capsys)) == {"missing images": 2}


def test_too_few_pairs_for_the_split(tmp_path, capsys):
    folder = make_tiny_flir(tmp_path / "data", num_train=2, num_test=1)
    assert kinds(check(folder, capsys)) == {"split": 1}


def test_what_is_odd_is_a_remark(folder, capsys):
    records = open_data_set(folder).records["train"]
    write_jpeg(torch.full((3, 64, 80), 7, dtype=torch.uint8), records[0].paths["rgb"])
    add_box(folder, records[1].image_id, [1, 1, 0, 10])
    edit(folder, "test", lambda data: data["images"].pop() and data["annotations"].clear())
    warnings = check(folder, capsys)["remarks"]
    assert len(warnings) == 3
    assert "no width or height: left out" in warnings[0]
    assert warnings[1] == f"{records[0].paths['rgb']}: one colour throughout"
    assert warnings[2].startswith(f"{folder}: 1 pair that no list names, the first {folder}/images_thermal_test/data/")


def test_a_class_that_training_never_sees_is_a_remark(folder, capsys):
    edit(folder, "train", lambda d: d.update(annotations=[a for a in d["annotations"] if a["category_id"] != 2]))
    assert check(folder, capsys)["remarks"] == [f"{folder}/meta/thermal/flir_train.json: no box of bike"]


def test_thermal_of_sixteen_bits_is_named(folder, capsys):
    for record in open_data_set(folder).records["test"]:
        path = Path(record.paths["thermal"])
        grey = np.asarray(Image.open(path)).astype(np.uint16) * 20 + 7000
        path.unlink()
        Image.fromarray(grey).save(path.with_suffix(".png"))
    lists = check(folder, capsys)["lists"]
    assert lists["train"]["thermal_bits"] == [8]
    assert lists["test"]["thermal_bits"] == [16]


def test_options_are_refused_in_one_line(tiny_flir, tmp_path, capsys):
    assert "outside the data folder" in refused(main, capsys, tiny_flir, "--json", tiny_flir / "report.json")
    assert "folder that exists" in refused(main, capsys, tiny_flir, "--json", tmp_path / "none" / "report.json")
    assert "--workers" in refused(main, capsys, tiny_flir, "--workers", "0")
    assert "flir_aligned" in refused(main, capsys, tiny_flir, "--dataset", "flir_alined")
    assert "no such data folder" in refused(main, capsys, tmp_path / "none")
    assert "expected a known layout" in refused(main, capsys, tmp_path)


@pytest.fixture
def real_data() -> Path:
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip("NAS_DSF_DATA does not name a folder with flir_aligned_mini")
    return Path(os.environ["NAS_DSF_DATA"]) / "flir_aligned_mini"


def test_real_pairs_have_no_problems(real_data, tmp_path, capsys):
    before = contents(real_data)
    out = tmp_path / "report.json"
    run(main, capsys, real_data, "--json", out)
    report = json.loads(out.read_text())
    assert report["problems"] == report["remarks"] == []
    shift = report["misregistration"]
    assert shift["reliable"]
    assert max(abs(shift["dx"]), abs(shift["dy"])) <= 2
    assert contents(real_data) == before


def test_ten_faults_in_real_pairs(real_data, tmp_path, capsys):
    folder = shutil.copytree(real_data, tmp_path / "data", copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    for fault, record in zip(TEN, open_data_set(folder).records["train"][::7]):
        fault(folder, record)
    assert kinds(check(folder, capsys)) == Counter(FAULTS[fault] for fault in TEN)
