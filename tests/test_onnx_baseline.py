"""`--baseline onnx:FILE` by the commands: a run like that of a training, its test, partner in box fusion, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="requirements-export.txt is not installed")
pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")

from main_darts_found_flira import main as found
from tasks.detection.predictor import Predictor
from tests.run_commands import named, refused, run
from tests.tasks.detection.onnx_files import constant_detector, white_box_detector
from tools.report import main as report

BOXES = {
    "boxes": np.float32([[8, 8, 40, 60], [0, 0, 64, 64]]),
    "scores": np.float32([0.9, 0.5]),
    "labels": np.array([0, 2]),
}


def detections_in(folder: Path) -> list[dict]:
    return json.loads((folder / "detections.json").read_text())


@pytest.fixture
def outside(in_work, tiny_flir, tiny_config, tmp_path, capsys) -> Path:
    """A run of a detector that answers every picture of 64x80 with two boxes."""
    file = constant_detector(tmp_path / "two.onnx", [1, 3, 64, 80], **BOXES)
    (tmp_path / "two.yaml").write_text("names: [person, tree, automobile]\nclasses: {automobile: car}\n")
    text = run(found, capsys, tiny_flir, "--config", tiny_config, "--baseline", f"onnx:{file}")
    assert "two.onnx has no class for bike" in text
    return named(text, "eval_exp_dir")


def test_a_run_of_a_file_is_one_like_that_of_a_training(outside, tiny_flir, tiny_config, capsys, undrawn):
    expected = [(1, [8.0, 8.0, 32.0, 52.0], 0.9), (3, [0.0, 0.0, 64.0, 64.0], 0.5)]
    for item in detections_in(outside):
        assert (item["category_id"], item["bbox"], item["score"]) in expected
    common = [tiny_flir, "--config", tiny_config, "--eval_exp_dir", outside]
    results = named(run(found, capsys, *common, "--eval_part", "val"), "results")
    assert detections_in(results.parent) == detections_in(outside)
    facts = json.loads(results.read_text())
    (row,) = [json.loads(line) for line in (outside / "metrics.jsonl").read_text().splitlines()]
    assert facts["AP"] == facts["AP_val"] == row["AP_val"]
    assert (facts["method"], facts["macs"], facts["epoch"]) == ("rgb by two.onnx", None, 0)
    (digest,) = facts["onnx"]["sha256"].values()
    assert (facts["onnx"]["file"], len(digest)) == ("two.onnx", 64)
    page = named(run(report, capsys, outside), "report").read_text()
    assert "Training: rgb by two.onnx" in page
    text = run(found, capsys, *common, "--robustness", "black", "shift")
    rows = json.loads((named(text, "robustness")).read_text())["rows"]
    assert [(row["sensor"], row["kind"]) for row in rows[1:]] == [("rgb", "black"), *[("rgb", "shift")] * 4]
    assert {row["AP"] for row in rows} == {rows[0]["AP"]}  # constant boxes


def test_a_file_is_a_partner_in_box_fusion_in_both_places(outside, tiny_flir, tiny_config, capsys):
    common = [tiny_flir, "--config", tiny_config]
    trained = named(run(found, capsys, *common, "--baseline", "thermal", "--epochs", 1), "eval_exp_dir")
    for method, first, second in (("wbf", trained, outside), ("nms", outside, trained)):
        fusion = ["--box_fusion", method, "--eval_exp_dir", first, "--partner_exp_dir", second]
        facts = json.loads(named(run(found, capsys, *common, *fusion), "results").read_text())
        assert {*facts["fused"].split(" + ")} == {"thermal", "rgb by two.onnx"}
        assert facts["macs"] is None
        assert facts["parameters"] > 0


def test_a_changed_file_or_description_is_refused(outside, tiny_flir, tiny_config, tmp_path, capsys):
    test = [tiny_flir, "--config", tiny_config, "--eval_exp_dir", outside]
    description = (tmp_path / "two.yaml").read_text()
    (tmp_path / "two.yaml").write_text(description + "box_form: xywh\n")
    assert "best.pt: onnx.outputs: expected" in refused(found, capsys, *test)
    (tmp_path / "moved.yaml").write_text(description)
    run(found, capsys, *test, "--onnx_description", tmp_path / "moved.yaml", "--dry_run")
    (tmp_path / "two.yaml").write_text(description)
    constant_detector(tmp_path / "two.onnx", [1, 3, 64, 80], **BOXES | {"scores": np.float32([0.9, 0.6])})
    assert "two.onnx has changed" in refused(found, capsys, *test)
    (tmp_path / "two.onnx").unlink()
    assert "two.onnx: expected an ONNX file, found nothing there" in refused(found, capsys, *test)


def test_mistakes_are_one_line(outside, tiny_flir, tiny_config, tmp_path, capsys):
    common = [tiny_flir, "--config", tiny_config, "--baseline"]
    file = f"onnx:{tmp_path / 'two.onnx'}"
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "pipe.yaml").write_text("names: [person, tree, car]\nnms: 2\n")
    assert "text.onnx: expected an ONNX file, found:" in refused(found, capsys, *common, f"onnx:{tmp_path}/text.onnx")
    assert "expected an ONNX file" in refused(found, capsys, *common, f"onnx:{tmp_path}")
    assert "or onnx:FILE, found 'onnx:'" in refused(found, capsys, *common, "onnx:")
    assert "--epochs: no effect" in refused(found, capsys, *common, file, "--epochs", 3)
    assert "--onnx_modality: expected --baseline" in refused(found, capsys, *common, "sum", "--onnx_modality", "rgb")
    described = [*common, file, "--onnx_description"]
    assert "nowhere.yaml: expected a readable YAML" in refused(found, capsys, *described, "nowhere.yaml")
    assert "pipe.yaml: nms: expected a number" in refused(found, capsys, *described, tmp_path / "pipe.yaml")
    with pytest.raises(ValueError, match=r"best\.pt: args\.baseline: expected a network that was trained here"):
        Predictor(outside)


def test_relative_boxes_that_are_read_as_pixels_are_remarked(in_work, tiny_flir, tiny_config, tmp_path, capsys):
    """In a run and in its test, of boxes as large as the picture; the same described as relative are not."""
    boxes = {"boxes": np.float32([[0.1, 0.1, 0.5, 0.9], [0, 0, 1, 1]])}
    file = constant_detector(tmp_path / "two.onnx", [1, 3, 32, 40], **BOXES | boxes)
    common = [tiny_flir, "--config", tiny_config]
    for unit in ("pixels", "relative"):
        (tmp_path / "two.yaml").write_text(f"names: [person, bike, car]\nresize: stretch\nbox_unit: {unit}\n")
        learned = run(found, capsys, *common, "--baseline", f"onnx:{file}")
        tested = run(found, capsys, *common, "--eval_exp_dir", named(learned, "eval_exp_dir"))
        for text in (learned, tested):
            assert ("two.yaml: box_unit: expected boxes in pixels, found all" in text) == (unit == "pixels")


def test_without_onnxruntime_the_way_to_it_is_said(in_work, tiny_flir, tiny_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tasks.detection.onnx_file.find_spec", lambda name: None)
    error = refused(found, capsys, tiny_flir, "--config", tiny_config, "--baseline", f"onnx:{tmp_path}/a.onnx")
    assert "expected onnx, onnxruntime, found none: pip install -r requirements-export.txt" in error


def test_a_detector_that_finds_persons_has_their_ap(in_work, tiny_flir, tiny_config, tmp_path, capsys):
    """Only thermal persons are white to it; it finds a box in pictures without any as well."""
    file = white_box_detector(tmp_path / "white.onnx", [1, 3, 128, 128])
    (tmp_path / "white.yaml").write_text("names: [person]\nresize: letterbox_centre\n")
    common = [tiny_flir, "--config", tiny_config]
    outside = named(
        run(found, capsys, *common, "--baseline", f"onnx:{file}", "--onnx_modality", "thermal"), "eval_exp_dir"
    )
    facts = json.loads(named(run(found, capsys, *common, "--eval_exp_dir", outside), "results").read_text())
    assert facts["AP50_person"] > 0.5
    assert facts["AP_person"] > 0.5
