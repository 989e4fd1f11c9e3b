"""Benchmarks of speed run to the end on small sizes, and their numbers fit together."""

import json

import pytest

from benchmarks import evaluation, full_search
from tests import processes
from tests.tiny_data import CONFIG

SMALL = ["--train", "12", "--val", "4", "--width", "96"]


@pytest.fixture
def rows(monkeypatch) -> list[dict]:
    """What the benchmarks would append to results/."""
    found = []
    for module in (evaluation, full_search):
        monkeypatch.setattr(module, "append_row", lambda name, row: found.append(row))
    return found


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_evaluation(rows, config, capsys):
    assert evaluation.main(["--config", config, *SMALL, "--runs", "2"]) == 0
    (row,) = rows
    assert row["cache"] == "off"
    parts = sum(row[f"{name}_s"] for name in ("load", "forward", "detect", "scoring"))
    assert parts == pytest.approx(row["val_pass_s"], rel=0.3)
    assert 0 < row["scoring_percent"] < row["evaluation_percent"] < row["val_pass_percent"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == row


def test_full_search(rows, config, monkeypatch):
    monkeypatch.setattr(full_search, "run", processes.run_command)
    assert full_search.main(["--config", config, *SMALL, "--epochs", "1", "--caches", "ram"]) == 0
    (row,) = rows
    assert (row["cache"], row["epochs"], row["extrapolated_epochs"]) == ("ram", 1, 2)
    assert row["extrapolated_s"] == pytest.approx(row["before_s"] + 2 * row["epoch_s"], abs=0.2)
    assert row["wall_s"] == pytest.approx(row["before_s"] + row["epoch_s"], abs=0.2)
