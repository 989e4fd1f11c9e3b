"""`--max_bad_files`: pairs that cannot be read are left out of training, named and counted, up to the limit."""

import json
import shutil
from pathlib import Path

import pytest

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from tests.run_commands import named, refused, run

COMMANDS = {"pretrain": pretrain, "search": search, "found": found}
BAD = ["images_rgb_train/data/FLIR_00003_RGB.jpg", "images_thermal_train/data/FLIR_00008_PreviewData.jpeg"]


@pytest.fixture
def damaged(tiny_flir, tmp_path) -> Path:
    """The tiny data with one image of each of two training pairs cut."""
    folder = tmp_path / "data"
    shutil.copytree(tiny_flir, folder)
    for file in BAD:
        (folder / file).write_bytes((folder / file).read_bytes()[:300])
    return folder


def options_of(command: str, config: Path, tmp_path: Path) -> list:
    own = {"pretrain": ["--checkpointdir", tmp_path / "fresh"], "search": [], "found": ["--baseline", "sum"]}
    return ["--config", config, *own[command]]


@pytest.mark.parametrize(("command", "workers"), [("pretrain", 0), ("search", 1), ("found", 0)])
def test_up_to_the_limit_they_are_left_out(in_work, damaged, tiny_config, tmp_path, capsys, command, workers):
    options = [*options_of(command, tiny_config, tmp_path), "--max_bad_files", 2, "--workers", workers]
    text = run(COMMANDS[command], capsys, damaged, *options)
    lines = [line for line in text.splitlines() if line.startswith("left out")]
    assert [line.partition(":")[0] for line in lines] == ["left out, 1 of at most 2", "left out, 2 of at most 2"]
    assert {Path(file).name for file in BAD} == {Path(line.split(":")[1]).name for line in lines}
    if command != "pretrain":
        folder = named(text, {"search": "search_exp_dir", "found": "eval_exp_dir"}[command])
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["bad_files"] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_one_more_ends_the_run(in_work, damaged, tiny_config, tmp_path, capsys, command):
    options = [*options_of(command, tiny_config, tmp_path), "--max_bad_files", 1]
    line = refused(COMMANDS[command], capsys, damaged, *options)
    assert any(Path(file).name in line for file in BAD)
    assert "--max_bad_files 1 were left out before" in line


def test_a_test_says_how_many_training_left_out(in_work, damaged, tiny_config, capsys):
    options = [damaged, "--config", tiny_config]
    text = run(found, capsys, *options, "--baseline", "sum", "--max_bad_files", 2)
    results = named(run(found, capsys, *options, "--eval_exp_dir", named(text, "eval_exp_dir")), "results")
    assert json.loads(results.read_text())["bad_files"] == 2
