"""Benchmarks of speed run to the end on small sizes, and their numbers fit together."""

import json

import pytest

from benchmarks import evaluation, full_search, pretrain_cache
from tests import processes
from tests.tiny_data import CONFIG

SMALL = ["--train", "12", "--val", "4", "--width", "96"]


@pytest.fixture
def rows(monkeypatch) -> list[dict]:
    """What the benchmarks would append to results/."""
    found = []
    for module in (evaluation, full_search, pretrain_cache):
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


def test_pretrain_cache(rows, tiny_flir, config, monkeypatch):
    monkeypatch.setattr(pretrain_cache, "run", processes.run_command)
    options = ["--config", config, "--backbone", "test_efficientnet", "--epochs", "2", "--runs", "1"]
    assert pretrain_cache.main([str(tiny_flir), *options]) == 0
    (row,) = rows
    assert row["epochs"] == 1
    assert row["ratio"] == pytest.approx(row["disk_epoch_s"] / row["off_epoch_s"], rel=0.05)
    maps = sum(channels * (64 // stride) * (80 // stride) for channels, stride in zip((32, 48, 64), (8, 16, 32)))
    assert row["cache_mib"] == round(23 * maps * 4 / 2**20, 1)
