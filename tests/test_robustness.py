"""`--robustness` and `--modality_dropout`, by the command: what they write, change and refuse."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torchvision.io import write_jpeg

from main_darts_found_flira import main as found
from tasks.detection import robustness
from tests.run_commands import named, refused, run
from utils.coco_eval import to_coco_detections


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "robustness.json").read_text())["rows"]


@pytest.fixture(scope="module")
def trained(pretrained, tiny_flir, tiny_config) -> Path:
    """A fusion of both sensors, in the working folder."""
    before = Path.cwd()
    os.chdir(pretrained)
    try:
        argv = [str(tiny_flir), "--config", str(tiny_config), "--baseline", "concat_conv", "--save", "robust"]
        assert found(argv) == 0
    finally:
        os.chdir(before)
    return max(pretrained.glob("runs/found-robust-*")).relative_to(pretrained)


def test_rows_and_picture(in_work, trained, tiny_flir, tiny_config, capsys):
    argv = [tiny_flir, "--config", tiny_config, "--eval_exp_dir", trained]
    kinds = ["frozen", "fog", "shift"]
    text = run(found, capsys, *argv, "--robustness", *kinds)
    folder = named(text, "robustness").parent
    results, told = (json.loads((folder / f"{name}.json").read_text()) for name in ("results", "robustness"))
    clean, *rows = told.pop("rows")
    assert all(results[name] == value for name, value in told.items())
    assert {"method", "eval_exp_dir", "seed", "split", "protocol", "commit"} <= told.keys()
    assert (clean["sensor"], clean["kind"], clean["severity"], clean["relative"]) == ("none", "clean", 0, 1)
    assert (clean["AP"], clean["AP50"]) == (results["AP"], results["AP50"])
    assert [(r["sensor"], r["kind"], r["severity"]) for r in rows] == [
        *(("thermal", "frozen", 5), ("rgb", "frozen", 5)),
        *((sensor, "fog", severity) for sensor in ("thermal", "rgb", "both") for severity in range(1, 6)),
        *(("rgb", "shift", px) for px in (2, 4, 8, 16)),
    ]
    assert len({row["AP"] for row in rows}) > 5
    for row in rows:
        assert row["relative"] == row["AP"] / clean["AP"]
    assert (folder / "robustness.png").stat().st_size > 10_000
    assert f"conditions: {len(rows)}" in run(found, capsys, *argv, "--robustness", *kinds, "--dry_run")
    again = named(run(found, capsys, *argv, "--robustness", "fog", "--workers", 1), "robustness").parent
    assert rows_of(again)[1:] == [row for row in rows if row["kind"] == "fog"]


def test_black_is_a_folder_of_black_pictures(in_work, trained, tiny_flir, tiny_config, tmp_path, capsys, monkeypatch):
    """The same detections, to the last digit, as of the plain test on pictures that are black."""
    answers, score = [], robustness.score
    monkeypatch.setattr(robustness, "score", lambda *args: answers.append(args[-1]) or score(*args))
    test = ["--config", tiny_config, "--eval_exp_dir", trained]
    folder = named(run(found, capsys, tiny_flir, *test, "--robustness", "black"), "robustness").parent
    data = tmp_path / "flir"
    for row, batches, sensor in zip(rows_of(folder)[1:], answers, ("thermal", "rgb"), strict=True):
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(tiny_flir, data)
        for path in (data / f"images_{sensor}_test/data").iterdir():
            write_jpeg(torch.zeros(1 if sensor == "thermal" else 3, 64, 80, dtype=torch.uint8), str(path))
        results = named(run(found, capsys, data, *test), "results")
        assert (row["sensor"], row["AP"]) == (sensor, json.loads(results.read_text())["AP"])
        ours = [d for batch, made in batches for d in to_coco_detections(made, batch["image_ids"], [1, 2, 3])]
        assert ours == json.loads((results.parent / "detections.json").read_text())
        assert ours


def test_a_network_of_one_sensor(in_work, tiny_flir, tiny_config, capsys):
    argv = [tiny_flir, "--config", tiny_config, "--eval_part", "val", "--eval_exp_dir"]
    text = run(found, capsys, *argv[:3], "--baseline", "thermal", "--epochs", 1)
    argv.append(named(text, "eval_exp_dir"))
    assert "--robustness shift: no effect on a network that reads thermal alone" in refused(
        found, capsys, *argv, "--robustness", "black", "shift"
    )
    assert "conditions: 38" in run(found, capsys, *argv, "--robustness", "--dry_run")  # 3 dead, 7 kinds of 5
    folder = named(run(found, capsys, *argv, "--robustness", "jpeg"), "robustness").parent
    assert {row["sensor"] for row in rows_of(folder)[1:]} == {"thermal"}


def test_a_config_may_name_the_kinds(in_work, trained, tiny_flir, tiny_config, tmp_path, capsys):
    argv = [tiny_flir, "--eval_exp_dir", trained, "--dry_run", "--config", tmp_path / "c.yaml"]
    for text, number in (("[black, jpeg]", 17), ("black", 2), ("[]", 115)):
        (tmp_path / "c.yaml").write_text(f"{tiny_config.read_text()}robustness: {text}\n")
        assert f"conditions: {number}" in run(found, capsys, *argv)
    (tmp_path / "c.yaml").write_text(f"{tiny_config.read_text()}robustness: [black, white]\n")
    assert "c.yaml: robustness: expected one of black, " in refused(found, capsys, *argv)


BAD = [
    (["--baseline", "sum", "--robustness"], "--robustness: expected --eval_exp_dir beside it"),
    (["--eval_exp_dir", "x", "--robustness", "white"], "--robustness: invalid choice"),
    (["--eval_exp_dir", "x", "--partner_exp_dir", "y", "--box_fusion", "nms", "--robustness"], "with --box_fusion"),
    (["--eval_exp_dir", "x", "--modality_dropout", 0.1], "--modality_dropout: no effect with --eval_exp_dir"),
    (["--baseline", "sum", "--modality_dropout", 1], "expected a number from 0 to below 1"),
    (["--baseline", "rgb", "--modality_dropout", 0.1], "--modality_dropout 0.1: expected 0 with --baseline rgb"),
    (["--baseline", "rgb_twice", "--modality_dropout", 0.1], "--modality_dropout 0.1: expected 0"),
    (["--baseline", "early", "--modality_dropout", 0.1], "--modality_dropout 0.1: expected 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_what_has_no_effect_is_refused(in_work, tiny_flir, tiny_config, capsys, options, message):
    assert message in refused(found, capsys, tiny_flir, "--config", tiny_config, *options)


def test_dropout_is_the_same_with_a_cache(in_work, tiny_flir, tiny_config, tmp_path, capsys):
    """And is told in args.json; without it the losses are others."""
    argv = [tiny_flir, "--config", tiny_config, "--baseline", "concat_conv"]
    cache, losses = ["--cache_features", "disk", "--cache_dir", tmp_path / "cache"], []
    for extra in ([], ["--modality_dropout", 0.5], ["--modality_dropout", 0.5, *cache], cache):
        text = run(found, capsys, *argv, *extra)
        folder = named(text, "eval_exp_dir")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([row["train_loss"] for row in rows])
        assert json.loads((folder / "args.json").read_text())["modality_dropout"] == (0.5 if "--m" in str(extra) else 0)
        records = {2: 24, 3: 0}.get(len(losses) - 1)  # 10 to learn on, mirrored too, 3 for val, 1 black
        assert records is None or f"{records} thermal + {records} rgb records to compute" in text
    plain, dropped, cached, plain_cached = losses
    assert cached == pytest.approx(dropped, rel=1e-4)
    assert plain_cached == pytest.approx(plain, rel=1e-4)
    assert dropped != pytest.approx(plain, rel=1e-3)
