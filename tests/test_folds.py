"""--folds, --fold: carried from pretraining to search, training and test, one fold or all in one command."""

import re
from pathlib import Path

import pytest

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from tests.run_commands import named, refused, run
from tests.tiny_data import make_tiny_flir
from utils.run_folder import newest_run, read_json

FOLDS = ("--folds", 2)


@pytest.fixture(scope="module")
def far_apart(tmp_path_factory):
    """12 training and 4 test pairs that are no neighbours."""
    return make_tiny_flir(tmp_path_factory.mktemp("apart"), step=20)


def test_one_command_runs_all_folds(in_work, far_apart, tiny_config, capsys, undrawn):
    data, save = [far_apart, "--config", tiny_config], ["--save", "cv"]
    text = run(pretrain, capsys, *data, *FOLDS, "--checkpointdir", "cv", *save)
    assert "--checkpointdir=cv/fold2 --folds=2 --fold=2" in text
    assert re.search(r"^folds 1 2: thermal AP_val \d+\.\d ± \d+\.\d, points of 100", text, re.MULTILINE)
    splits = [read_json(Path(f"cv/fold{fold}/split.json")) for fold in (1, 2)]
    learned = [{name for part in split["parts"].values() for name in part} for split in splits]
    assert [len(names) for names in learned] == [8, 8]
    assert not learned[0] & learned[1]
    wrong = ("--fold", 1, "--checkpointdir", "cv/fold2")
    assert "pretrain.json: field splits" in refused(search, capsys, *data, *FOLDS, *wrong)

    options = [*data, "--epochs", 1, *FOLDS]
    text = run(search, capsys, *options, "--checkpointdir", "cv", *save)
    assert text.splitlines()[-1] == "the training of all folds takes: --folds 2 --search_exp_dir cv"
    searches = [newest_run("search", f"cv-fold{fold}") for fold in (1, 2)]

    first = [*data, "--epochs", 1, "--search_exp_dir", searches[0], "--save", "cv-fold1"]
    run(found, capsys, *first)  # alone, with the fold of its search
    text = run(found, capsys, *options, "--search_exp_dir", "cv", *save, "--resume", "auto")
    assert text.count("is finished: nothing to resume") == 1
    runs = [newest_run("found", f"cv-fold{fold}") for fold in (1, 2)]
    args = [read_json(path / "args.json") for path in runs]
    assert [(a["fold"], a["folds"], a["checkpointdir"]) for a in args] == [(1, 2, "cv/fold1"), (2, 2, "cv/fold2")]
    assert [Path(a["search_exp_dir"]) for a in args] == searches
    assert [read_json(path / "split.json")["hash"] for path in runs] == [split["hash"] for split in splits]
    scores = [read_json(path / "finished.json")["said"][0].split()[-1] for path in runs]
    mean = 100 * sum(map(float, scores)) / 2
    assert f"folds 1 2: AP_val {mean:.1f} ± " in text

    results = read_json(named(run(found, capsys, *data, "--eval_exp_dir", runs[1]), "results"))
    assert (results["fold"], results["folds"], results["pairs"]) == (2, 2, 8)
    assert (results["split"], results["checkpoint_split"]) == (splits[1]["hash"], "same")
    assert "--fold: expected 2 as in" in refused(found, capsys, *data, "--eval_exp_dir", runs[1], "--fold", 1)
    as_another = ("--eval_exp_dir", runs[1], "--eval_dataset", "flir_aligned")
    assert "expected a test list without pairs of the training" in refused(found, capsys, *data, *as_another)
    assert run(found, capsys, *data, *as_another, "--allow_split_mismatch")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--search_exp_dir", "nothing"), "--search_exp_dir nothing: expected the --save of a finished search of all"),
        (("--baseline", "sum", "--seeds", 1, 2), "--seeds: expected --fold beside --folds"),
    ],
)
def test_all_folds_beside_what_they_cannot_have(in_work, tiny_flir, tiny_config, capsys, options, expected):
    assert expected in refused(found, capsys, tiny_flir, "--config", tiny_config, *FOLDS, *options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--fold", 2), "--fold: expected --folds beside it"),
        ((*FOLDS, "--fold", 4), "--fold: expected one of the folds 1 to 2, found 4"),
        (("--folds", 1, "--fold", 1), "--folds: expected at least 2"),
        ((*FOLDS, "--fold", 1, "--paper-protocol"), "--folds: expected no --paper-protocol"),
    ],
)
def test_what_contradicts_is_refused(in_work, tiny_flir, tiny_config, capsys, options, expected):
    assert expected in refused(found, capsys, tiny_flir, "--config", tiny_config, "--baseline", "sum", *options)


def test_a_run_of_an_earlier_version_has_no_folds(in_work, tiny_flir, tiny_config, capsys):
    """Checkpoints of 0.1 and 0.2.0 have no such options."""
    import torch

    text = run(found, capsys, tiny_flir, "--config", tiny_config, "--baseline", "sum", "--epochs", 1)
    folder = named(text, "eval_exp_dir")
    state = torch.load(folder / "best.pt", weights_only=True)
    state["args"] = {name: value for name, value in state["args"].items() if name not in ("folds", "fold")}
    torch.save(state, folder / "best.pt")
    results = read_json(
        named(run(found, capsys, tiny_flir, "--config", tiny_config, "--eval_exp_dir", folder), "results")
    )
    assert "fold" not in results
    error = refused(found, capsys, tiny_flir, "--config", tiny_config, "--eval_exp_dir", folder, *FOLDS, "--fold", 1)
    assert "expected None as in" in error
