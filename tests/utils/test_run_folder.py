"""Run folders: never reused, readable, and clear about what is wrong."""

import json

import pytest

from utils.errors import UserError
from utils.run_folder import RunFolder, environment, read_json, write_json
from utils.tracking import has_key


def test_folders_are_never_shared(tmp_path):
    paths = {RunFolder("search", "EXP", str(tmp_path / "runs")).path for _ in range(5)}
    assert len(paths) == 5
    assert all(p.name.startswith("search-EXP-") for p in paths)


@pytest.mark.parametrize("save", ["", "a/b", "..", ".hidden"])
def test_names_stay_inside(tmp_path, save):
    with pytest.raises(UserError, match="--save"):
        RunFolder("search", save, str(tmp_path))


def test_a_file_in_the_place_of_runs_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="runs"):
        RunFolder("search", "EXP", str(tmp_path / "runs"))


def test_log_and_metrics(tmp_path, capsys):
    run = RunFolder("search", "EXP", str(tmp_path))
    run.log("one")
    run.log("two")
    run.append_metrics({"epoch": 0, "AP_val": None})
    run.append_metrics({"epoch": 1, "AP_val": 0.5})
    assert (run.path / "log.txt").read_text() == "one\ntwo\n"
    assert capsys.readouterr().out == "one\ntwo\n"
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"epoch": 0, "AP_val": None}, {"epoch": 1, "AP_val": 0.5}]


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
    text = environment()
    assert all(f"{name}: " in text for name in ("commit", "python", "torch", "torchvision", "timm", "platform", "gpus"))


def test_wandb_key_is_found_without_asking(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password x\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_key()
