"""--folds, --fold: carried from pretraining to search, training and test, and refused where they contradict."""

import pytest

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from tests.run_commands import named, refused, run
from tests.tiny_data import make_tiny_flir
from utils.run_folder import read_json

FOLDS = ("--folds", 3)


@pytest.fixture(scope="module")
def far_apart(tmp_path_factory):
    """12 training and 4 test pairs that are no neighbours."""
    return make_tiny_flir(tmp_path_factory.mktemp("apart"), step=20)


def test_a_fold_is_carried_to_the_test(in_work, far_apart, tiny_config, capsys, undrawn, tmp_path):
    data = [far_apart, "--config", tiny_config]
    text = run(pretrain, capsys, *data, *FOLDS, "--fold", 2, "--checkpointdir", "fold2")
    assert " --folds=3 --fold=2" in text.splitlines()[-1]
    error = refused(search, capsys, *data, *FOLDS, "--fold", 1, "--checkpointdir", "fold2")
    assert "pretrain.json: field splits" in error
    options = [*data, "--epochs", 1]
    searched = named(run(search, capsys, *options, *FOLDS, "--fold", 2, "--checkpointdir", "fold2"), "search_exp_dir")
    trained = named(run(found, capsys, *options, "--search_exp_dir", searched), "eval_exp_dir")
    assert read_json(trained / "args.json")["fold"] == 2
    results = read_json(named(run(found, capsys, *data, "--eval_exp_dir", trained), "results"))
    assert (results["fold"], results["folds"], results["pairs"]) == (2, 3, 5)
    assert results["split"] == results["checkpoint_split"].replace("same", results["split"])
    assert "--fold: expected 2 as in" in refused(found, capsys, *data, "--eval_exp_dir", trained, "--fold", 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--fold", 2), "--fold: expected --folds beside it"),
        ((*FOLDS, "--fold", 4), "--fold: expected one of the folds 1 to 3, found 4"),
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
