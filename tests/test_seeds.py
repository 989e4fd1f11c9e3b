"""--seeds: a run per seed, each as it would be alone, gone on with where it was stopped, and compared."""

import re
from pathlib import Path

import pytest

from commands.options import parser_of
from commands.several_runs import each_run
from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from tasks import TASKS
from tests.run_commands import named, refused, run
from utils.args import parse
from utils.run_folder import read_json


def test_each_seed_is_a_run_of_its_own_and_their_spread_is_told(in_work, tiny_flir, tiny_config, capsys):
    argv = [tiny_flir, "--baseline", "sum", "--config", tiny_config, "--epochs", 1, "--save", "several"]
    report = [tiny_flir, "--config", tiny_config]
    text = run(found, capsys, *argv, "--seeds", 4, 5)
    alone = named(run(found, capsys, *argv, "--seed", 5, "--save", "alone"), "eval_exp_dir")
    runs = [next(Path("runs").glob(f"found-several-seed{seed}-*")) for seed in (4, 5)]
    assert (runs[1] / "metrics.jsonl").read_text().partition("train_loss")[2][:40] == (
        (alone / "metrics.jsonl").read_text().partition("train_loss")[2][:40]
    )
    assert read_json(runs[0] / "args.json")["seed"] == 4
    scores = [100 * read_json(one / "results.json")["AP_val"] for one in results_of(runs, report, capsys)]
    assert f"seeds 4 5: AP_val {sum(scores) / 2:.1f} ± " in text
    again = run(found, capsys, *argv, "--seeds", 4, 5, "--resume", "auto")
    assert again.count("is finished: nothing to resume") == 2
    assert len(list(Path("runs").glob("found-several-seed*"))) == 2


def results_of(runs: list[Path], argv: list, capsys) -> list[Path]:
    return [named(run(found, capsys, *argv, "--eval_exp_dir", one), "results").parent for one in runs]


def test_the_comparison_takes_them_for_one_method(in_work, undrawn, tiny_flir, tiny_config, capsys, tmp_path):
    config = tmp_path / "with_report.yaml"
    config.write_text(tiny_config.read_text().replace("no_report: true\n", ""))
    text = run(search, capsys, tiny_flir, "--config", config, "--epochs", 1, "--save", "pair", "--seeds", 1, 2)
    page = named(text, "comparison")
    assert page == Path("runs/search-pair-seeds.html")
    line, *_ = re.findall(r'<th scope="row">darts, fusion_v1 \(pair\)</th>(.*?)</tr>', page.read_text(), re.DOTALL)
    assert "1, 2" in line
    dry = run(search, capsys, tiny_flir, "--config", config, "--seeds", 1, 2, "--dry_run")
    assert dry.count("logits: ") == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--seeds", 1, 1), "expected different seeds"),
        (("--seeds", 1, 2, "--seed", 3), "--seeds: expected no --seed"),
        (("--seeds", 1, 2, "--eval_exp_dir", "run"), "--seeds: no effect with --eval_exp_dir"),
        (("--seeds", 1, 2, "--resume", "runs/x"), "--seeds: expected --resume auto"),
    ],
)
def test_what_contradicts_is_refused(in_work, tiny_flir, tiny_config, capsys, options, expected):
    assert expected in refused(found, capsys, tiny_flir, "--config", tiny_config, "--baseline", "sum", *options)


def test_without_seeds_nothing_changes():
    options = parse(parser_of(TASKS["flira"]), ["data"], "found")
    assert list(each_run(options, "found")) == [options]


def test_one_seed_that_is_typed_wins_over_seeds_of_a_config(in_work, tiny_flir, tiny_config, capsys, tmp_path):
    config = tmp_path / "seeds.yaml"
    config.write_text(tiny_config.read_text().replace("found: {", "found: {seeds: [1, 2], "))
    argv = [tiny_flir, "--baseline", "sum", "--config", config, "--epochs", 1, "--save", "one"]
    text = run(found, capsys, *argv, "--seed", 3)
    (folder,) = Path("runs").glob("found-one-*")
    assert read_json(folder / "args.json")["seed"] == 3
    assert "seeds 1 2" not in text
    assert run(found, capsys, tiny_flir, "--config", config, "--eval_exp_dir", folder, "--dry_run")
    assert "nothing to resume" in run(found, capsys, *argv, "--resume", folder)
    config.write_text(tiny_config.read_text().replace("found: {", "found: {seeds: [], "))
    assert "expected at least one seed" in refused(found, capsys, *argv)
