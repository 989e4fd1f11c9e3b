"""Benchmarks of speed run to the end on small sizes, and their numbers fit together."""

import json
from pathlib import Path

import pytest

from benchmarks import evaluation, full_search, pretrain_cache
from commands.options import parser_of
from tasks import TASKS
from tests import processes
from tests.tiny_data import CONFIG
from utils.args import parse

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
    """On made-up times of runs whose command lines are read as the command reads them."""
    seen = []

    def run(script, *words):
        options = parse(parser_of(TASKS["flira"]), [str(word) for word in words], "pretrain")
        seen.append((options.epochs, options.freeze_encoder, options.cache_features))
        folder = Path(f"runs/pretrain-EXP-20260101-0000{len(seen):02}")
        folder.mkdir(parents=True)
        (folder / "command.json").write_text("{}")
        seconds = {"off": 4.0, "disk": 1.0}[options.cache_features]
        row = json.dumps({"train_seconds": seconds, "val_seconds": seconds / 2})
        (folder / "metrics.jsonl").write_text("\n".join([row] * options.epochs))

    monkeypatch.setattr(pretrain_cache, "run", run)
    assert pretrain_cache.main([str(tiny_flir), "--config", config, "--epochs", "3", "--runs", "2"]) == 0
    assert seen == [(1, False, "off"), (1, True, "disk"), *[(3, True, "off"), (3, True, "disk")] * 2]
    (row,) = rows
    assert (row["epochs"], row["off_epoch_s"], row["disk_train_s"], row["ratio"]) == (4, 6.0, 1.0, 0.25)
