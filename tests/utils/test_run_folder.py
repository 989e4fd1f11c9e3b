"""Run folders: never reused, readable, and clear about what is wrong."""

import json

import pytest
import torch

from utils import run_folder
from utils.errors import UserError
from utils.run_folder import RunFolder, environment, read_json, write_json


def test_folders_are_never_shared(tmp_path):
    paths = {RunFolder.new("search", "EXP", str(tmp_path / "runs")).path for _ in range(5)}
    assert len(paths) == 5
    assert all(p.name.startswith("search-EXP-") for p in paths)


@pytest.mark.parametrize("save", ["", "a/b", "..", ".hidden"])
def test_names_stay_inside(tmp_path, save):
    with pytest.raises(UserError, match="--save"):
        RunFolder.new("search", save, str(tmp_path))


def test_a_file_in_the_place_of_runs_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="runs"):
        RunFolder.new("search", "EXP", str(tmp_path / "runs"))


def test_log_and_metrics(tmp_path, capsys):
    run = RunFolder.new("search", "EXP", str(tmp_path))
    run.log("one")
    run.log("two")
    run.append_row({"epoch": 0, "AP_val": None})
    run.append_row({"epoch": 1, "AP_val": 0.5})
    assert (run.path / "log.txt").read_text() == "one\ntwo\n"
    assert capsys.readouterr().out == "one\ntwo\n"
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"epoch": 0, "AP_val": None}, {"epoch": 1, "AP_val": 0.5}]


def test_names_cannot_command_a_terminal(tmp_path, capsys):
    run = RunFolder.new("search", "EXP", str(tmp_path))
    run.log("class \x1b[31mred\nnext")
    assert (run.path / "log.txt").read_text() == "class \\x1b[31mred next\n" == capsys.readouterr().out


def test_rows_are_dropped_with_a_line_that_was_cut(tmp_path):
    run = RunFolder.new("search", "EXP", str(tmp_path))
    for epoch in range(3):
        run.append_row({"epoch": epoch})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "tr')
    run.keep_rows(lambda row: row["epoch"] != 1)
    run.append_row({"epoch": 4})
    assert [row["epoch"] for row in run.rows()] == [0, 2, 4]
    (run.path / "metrics.jsonl").write_text("[1]\n{}\n")
    with pytest.raises(UserError, match="metrics.jsonl: expected"):
        run.rows()


def test_what_changed_between_two_starts_is_told(tmp_path, monkeypatch):
    run = RunFolder.new("search", "EXP", str(tmp_path))
    assert run.note_environment() == {}
    monkeypatch.setattr(run_folder, "environment", lambda: {"command": "other", "torch": "0.1", "new": "1"})
    before = torch.__version__
    assert run.note_environment() == {"torch": f"{before}, now 0.1"}
    assert (run.path / "env.txt").read_text().endswith("\n\ncommand: other\ntorch: 0.1\nnew: 1\n")


def test_json_errors_name_the_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    for name, text in (("cut.json", '{"a": '), ("list.json", "[1]"), ("deep.json", "[" * 100000)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            read_json(tmp_path / name)
    with pytest.raises(UserError, match="none.json"):
        read_json(tmp_path / "none.json")


def test_environment_names_versions_and_commit():
    known = environment()
    assert all(known[name] for name in ("commit", "python", "torch", "torchvision", "timm", "platform", "gpus"))
