"""An oriented canvas through all commands: pretrained, trained, tested, and predicted with from the run folder."""

import json
from pathlib import Path

import pytest

import main_darts_found_flira
import main_pretrain_flira
from tasks.detection.predictor import Predictor
from tests.datasets.detection.test_canvas import make_mixed
from tests.run_commands import named, refused, run

ORIENTED = ("--canvas", "oriented", "--image_size", "64x96")


def test_commands_take_over_the_canvas(tmp_path, tiny_config, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_mixed(tmp_path / "data")
    common = (folder, "--dataset", "coco", "--config", tiny_config)
    sides = ("--short_sides", "40", "64")
    run(main_pretrain_flira.main, capsys, *common, *ORIENTED, *sides, "--modality", "rgb")
    record = json.loads(Path("checkpoints/flira/pretrain.json").read_text())
    assert (record["canvas"], record["image_size"]) == ("oriented", [64, 96])
    baseline = ("--baseline", "rgb", "--cache_features", "ram", "--epochs", "1")
    path = named(run(main_darts_found_flira.main, capsys, *common, *ORIENTED, *baseline), "eval_exp_dir")
    assert json.loads(Path(path, "args.json").read_text())["canvas"] == "oriented"
    run(main_darts_found_flira.main, capsys, *common, "--eval_exp_dir", path)
    predictor, pictures = Predictor(path), sorted(folder.glob("images/test_*"))
    pairs = [predictor.pair(picture, None) for picture in pictures]
    assert {predictor.sample(pair)["image_size"] for pair in pairs} == {(64, 96), (96, 64)}
    together = predictor.detect(pairs, score=0.0)
    for pair, objects in zip(pairs, together, strict=True):
        (alone,) = predictor.detect([pair], score=0.0)
        assert len(objects) == len(alone) > 0
        height, width = pair.size
        assert all(0 <= o["box_xyxy"][0] <= o["box_xyxy"][2] <= width for o in objects)
        assert all(0 <= o["box_xyxy"][1] <= o["box_xyxy"][3] <= height for o in objects)
        best, same = objects[0]["box_xyxy"], alone[0]["box_xyxy"]
        assert best == pytest.approx(same, abs=0.1)


@pytest.mark.parametrize(("options", "words"), [
    (("--canvas", "oriented", "--image_size", "64x80"), "--image_size: expected height <= width in multiples of 32"),
    (("--canvas", "oriented", "--image_size", "96x64"), "--image_size: expected height <= width in multiples of 32"),
    (("--short_sides", "40", "64"), "--short_sides: expected --canvas oriented beside it, found fixed"),
    ((*ORIENTED, "--short_sides", "64", "40"), "--short_sides: expected LO <= HI from 32 to the long side"),
    ((*ORIENTED, "--short_sides", "64", "128"), "long side of --image_size, 96, found 64 128"),
])  # fmt: skip
def test_a_canvas_that_cannot_be_is_refused(tmp_path, tiny_config, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert words in refused(main_pretrain_flira.main, capsys, "data", "--config", tiny_config, *options)
