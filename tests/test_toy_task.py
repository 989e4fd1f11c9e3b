"""The task protocol by the least task: pretraining, search by every strategy, training, resuming, test, report."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from commands import run_command
from engine.checkpointer import Checkpointer
from models.search.strategies import STRATEGIES
from report.run import Run
from tests.run_commands import named, refused, run
from tests.toy_task import Toy
from utils.args import command

EPOCHS = {"random": 2, "evolution": 2}
pytestmark = pytest.mark.usefixtures("undrawn")
COMMON = ["data", "--workers", 0, "--device", "cpu", "--batchsize", 4, "--epochs", 2]


REPEATED = ["--save", "again", "--no_report"]


def main_of(section: str):
    return command(lambda argv: run_command(section, Toy(), argv))


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder, before = tmp_path_factory.mktemp("toy"), Path.cwd()
    os.chdir(folder)
    try:
        assert main_of("pretrain")([str(word) for word in COMMON]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def in_folder(work, monkeypatch):
    monkeypatch.chdir(work)


def test_pretraining_leaves_what_its_stages_trained():
    folder = Path("checkpoints/toy")
    assert {path.name for path in folder.glob("*.pth")} == {"left.pth", "right.pth"}
    splits = json.loads((folder / "pretrain.json").read_text())["splits"]
    assert splits.keys() == {"left", "right"}
    assert len(set(splits.values())) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_each_strategy_finds_is_trained_and_tested(strategy, capsys):
    few = ["--rounds", 3, "--population", 2, "--tournament", 2] if strategy == "evolution" else []
    argv = [*COMMON, "--strategy", strategy, *few]
    searched, again = (named(run(main_of("search"), capsys, *argv, *more), "search_exp_dir") for more in ([], REPEATED))
    assert [scores(row) for row in Run(searched).rows] == [scores(row) for row in Run(again).rows]
    states = [torch.load(folder / "best.pt", weights_only=True)["model"] for folder in (searched, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    genotype = json.loads((searched / "genotype.json").read_text())
    assert json.loads((again / "genotype.json").read_text())["id"] == genotype["id"]
    trained = named(run(main_of("found"), capsys, *COMMON, "--search_exp_dir", searched), "eval_exp_dir")
    assert json.loads((trained / "genotype.json").read_text())["id"] == genotype["id"]
    on_val = ["--eval_exp_dir", trained, "--eval_part", "val"]
    results = json.loads(named(run(main_of("found"), capsys, *COMMON[:-2], *on_val), "results").read_text())
    assert results["closeness"] == results["closeness_val"]
    assert results["method"] == f"genotype {genotype['id']}"
    for folder in (searched, trained):
        assert (folder / "report.html").stat().st_size > 1000
        assert Run(folder).metric == "closeness"


def test_another_seed_searches_another_way(capsys):
    few = ["--strategy", "evolution", "--rounds", 3, "--population", 2, "--tournament", 2, "--no_report"]
    ends = [named(run(main_of("search"), capsys, *COMMON, *few, "--seed", seed), "search_exp_dir") for seed in (1, 2)]
    assert [scores(row) for row in Run(ends[0]).rows] != [scores(row) for row in Run(ends[1]).rows]


BRIEF = ["--topk", 2, "--topk_weights", "supernet", "--topk_epochs", 2]


@pytest.mark.parametrize(
    ("section", "options", "phase", "num_rows"),
    [("search", [], "", 2), ("search", BRIEF, "topk", 6), ("found", ["--random_genotype", 1], "", 2)],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(section, options, phase, num_rows, capsys, monkeypatch):
    """Stopped in the epochs, or in the brief training of the first of two genotypes."""
    main, key = main_of(section), {"search": "search_exp_dir", "found": "eval_exp_dir"}[section]
    whole = named(run(main, capsys, *COMMON, *options, "--save", "whole"), key)
    on_step_end, steps = Checkpointer.on_step_end, []

    def stop_once(checkpointer):
        steps.append(checkpointer.phase)
        if steps.count(phase) == 3 and steps[-1] == phase:
            os.kill(os.getpid(), signal.SIGTERM)
        on_step_end(checkpointer)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "on_step_end", stop_once)
        assert main([str(word) for word in (*COMMON, *options, "--save", "stopped")]) == 3
    resumed = named(run(main, capsys, "--resume", "auto", "--save", "stopped"), key)
    rows = [[scores(row) for row in Run(folder).rows] for folder in (whole, resumed)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == num_rows


def scores(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.endswith(("_seconds", "_per_s", "_mb"))}


def test_a_task_says_what_is_wrong_as_every_task_does(capsys):
    assert "expected exactly one of" in refused(main_of("found"), capsys, *COMMON)
    assert "no such checkpoint file" in refused(main_of("search"), capsys, *COMMON, "--checkpointdir", "nowhere")
    assert "--strategy random" in refused(main_of("search"), capsys, *COMMON, "--strategy", "random", "--topk", 2)


def test_the_toy_is_small():
    assert len(Path(__file__).with_name("toy_task.py").read_text().splitlines()) <= 80
