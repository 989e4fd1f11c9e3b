"""Runs of every kind with their reports, made once per process."""

import os
import shutil
from pathlib import Path

import pytest

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from utils.run_folder import read_json


@pytest.fixture(scope="session")
def runs(tmp_path_factory, pretrained, tiny_flir, tiny_config) -> dict[str, Path]:
    """A run of each kind with its report, of trainings two seeds."""
    folder, before = tmp_path_factory.mktemp("reports"), Path.cwd()
    shutil.copytree(pretrained / "checkpoints", folder / "checkpoints")
    (folder / "report.yaml").write_text(tiny_config.read_text().replace("no_report: true\n", ""))
    os.chdir(folder)
    common = [str(tiny_flir), "--config", "report.yaml"]
    try:
        assert search([*common, "--pair_inputs", "--topk", "2"]) == 0
        assert search([*common, "--strategy", "evolution", "--rounds", "4", "--epochs", "1", "--save", "evo"]) == 0
        assert found([*common, "--search_exp_dir", *map(str, folder.glob("runs/search-EXP*")), "--epochs", "1"]) == 0
        for seed, more in (("1", ["--no_report"]), ("2", [])):
            assert found([*common, "--baseline", "rgb", "--seed", seed, "--save", "rgb", "--epochs", "1", *more]) == 0
        for trained in sorted(folder.glob("runs/found-*")):
            more = ["--robustness", "black", "fog"] if "EXP" in trained.name else []
            args = read_json(trained / "args.json")
            own = ["--save", args["save"], "--seed", str(args["seed"])]
            assert found([*common, "--eval_exp_dir", str(trained), *own, *more]) == 0
        one = ["--checkpointdir", "other", "--modality", "rgb", "--epochs", "1"]
        assert pretrain([*common, *one]) == 0
    finally:
        os.chdir(before)
    names = ("search-EXP", "search-evo", "found-EXP", "test-EXP", "pretrain-EXP")
    paths = {name: next(folder.glob(f"runs/{name}-*")) for name in names}
    for kind in ("found", "test"):
        seeds = sorted(folder.glob(f"runs/{kind}-rgb-*"), key=lambda run: read_json(run / "args.json")["seed"])
        paths |= {f"{kind}-rgb{number}": run for number, run in enumerate(seeds, 1)}
    return paths


@pytest.fixture
def work(runs, monkeypatch) -> Path:
    """Stand where the runs were made."""
    folder = runs["test-EXP"].parent.parent
    monkeypatch.chdir(folder)
    return folder
