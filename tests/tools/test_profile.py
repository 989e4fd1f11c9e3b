"""What a network costs: the parts add up to the whole, which is what a test counts."""

import json

from main_darts_found_flira import main as found
from models.detection.baselines import FUSIONS
from tests.run_commands import named, refused, run
from tools.profile import WHOLE
from tools.profile import main as profile
from utils.run_folder import read_json


def test_parts_add_up_and_others_stand_beside(in_work, tiny_flir, tiny_config, tmp_path, capsys):
    config = ["--config", tiny_config]
    argv = [tiny_flir, "--random_genotype", 1, "--space", "fusion_v2", *config, "--epochs", 1]
    network = named(run(found, capsys, *argv), "eval_exp_dir")
    results = read_json(named(run(found, capsys, tiny_flir, "--eval_exp_dir", network, *config), "results"))
    argv = ["--eval_exp_dir", network, "--rounds", 2, "--batchsize", 2, "--device", "cpu"]
    text = run(profile, capsys, *argv, "--out", tmp_path / "costs.json")
    rows = {row["name"]: row for row in json.loads((tmp_path / "costs.json").read_text())["rows"]}
    parts = ("thermal stream", "rgb stream", "fusion", "head", "boxes from scores")
    assert list(rows) == [*parts, WHOLE, "thermal", "rgb", *FUSIONS]
    for column in ("parameters", "macs"):
        assert sum(rows[part][column] for part in parts) == rows[WHOLE][column] == results[column]
    assert rows["fusion"]["parameters"] == results["parameters_fusion"]
    assert rows["thermal"]["parameters"] < rows["sum"]["parameters"] < rows["concat_conv"]["parameters"]
    assert all(0 < row["median_ms"] <= row["p95_ms"] for row in rows.values())
    assert text.count("\n|") == len(rows) + 1
    nowhere = ["--out", tmp_path / "nowhere" / "costs.json"]
    assert "expected a file in a folder that exists" in refused(profile, capsys, *argv, *nowhere)


def test_towers_are_a_part_of_their_own(fad, tmp_path, capsys):
    argv = ["--eval_exp_dir", fad.run, "--rounds", 1, "--device", "cpu", "--out", tmp_path / "costs.json"]
    run(profile, capsys, *argv)
    rows = {row["name"]: row for row in read_json(tmp_path / "costs.json")["rows"]}
    parts = ("rgb stream", "towers", "head", "boxes from scores")
    assert list(rows) == [*parts, WHOLE, "fcos", "fcos_wired"]
    for column in ("parameters", "macs"):
        assert sum(rows[part][column] for part in parts) == rows[WHOLE][column] != rows["fcos"][column]
