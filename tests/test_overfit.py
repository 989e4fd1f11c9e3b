"""--overfit N: the same few pairs for all parts, learned by heart, and said everywhere."""

import json

import pytest

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from tests.run_commands import named, refused, run
from utils.run_folder import read_json

SAID = "overfit: learned pairs used as val"


def test_few_pairs_are_learned_by_heart_and_results_say_so(in_work, tiny_flir, tiny_config, capsys):
    config = [tiny_flir, "--config", tiny_config]
    learning = ["--overfit", 3, "--epochs", 45, "--Ti", 45, "--eta_max", 0.01, "--norm_momentum", 0.1]
    learning += ["--cache_features", "ram"]
    folder = named(run(found, capsys, *config, "--baseline", "concat_conv", *learning), "eval_exp_dir")
    split = read_json(folder / "split.json")
    assert split["protocol"] == SAID
    assert split["parts"]["train"] == split["parts"]["arch"] == split["parts"]["val"]
    assert len(split["parts"]["train"]) == 3
    truth = json.loads((tiny_flir / "meta/thermal/flir_train.json").read_text())
    with_objects = {one["image_id"] for one in truth["annotations"]}
    assert {name.rpartition(".")[0] for name in split["parts"]["train"]} <= with_objects
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert max(row["AP50_val"] for row in rows) > 0.6
    own = run(found, capsys, *config, "--eval_exp_dir", folder, "--eval_part", "val")
    results = read_json(named(own, "results"))
    assert results["AP"] == pytest.approx(max(row["AP_val"] for row in rows))
    assert results["protocol"] == SAID
    tested = read_json(named(run(found, capsys, *config, "--eval_exp_dir", folder), "results"))
    assert (tested["part"], tested["pairs"], tested["protocol"]) == ("test", 4, SAID)
    assert "--overfit: no effect" in refused(found, capsys, *config, "--eval_exp_dir", folder, "--overfit", 3)


def test_a_search_overfits_and_its_training_inherits_it(in_work, tiny_flir, tiny_config, capsys):
    config = [tiny_flir, "--config", tiny_config, "--epochs", 1]
    searched = named(run(search, capsys, *config, "--overfit", 2), "search_exp_dir")
    assert read_json(searched / "genotype.json")["parts"]["fusion"]["meta"]["protocol"] == SAID
    trained = named(run(found, capsys, *config, "--search_exp_dir", searched), "eval_exp_dir")
    assert read_json(trained / "split.json")["hash"] == read_json(searched / "split.json")["hash"]


def test_what_cannot_be_overfitted_is_refused(in_work, tiny_flir, tiny_config, capsys):
    config = [tiny_flir, "--config", tiny_config, "--baseline", "sum"]
    assert "expected as many training pairs with objects, found 10" in refused(found, capsys, *config, "--overfit", 11)
    assert "--paper-protocol" in refused(found, capsys, *config, "--overfit", 2, "--paper-protocol")
