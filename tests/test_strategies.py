"""Every strategy through the command: a valid genotype, repeatable, resumable; selection, collapse and costs."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

from benchmarks.fusion_study.rate_genotypes import main as rate_genotypes
from datasets.road_scenes import main as road_scenes
from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from models.search.architecture import read_architecture
from models.search.fusion_cells.genotype_file import FusionReader
from models.search.strategies import STRATEGIES
from tests.run_commands import named, refused, run
from utils.run_folder import read_json

TAPS = tuple(f"{m}/bifpn{r}" for m in ("thermal", "rgb") for r in (1, 2))
LEVELS = ("P3", "P4", "P5")
OWN = {
    "evolution": ["--rounds", 5, "--population", 3, "--tournament", 2, "--topk", 2],
    "darts": ["--select", "perturb"],
    "gdas": ["--topk", 2],
    "drnas": ["--epochs", 2, "--arch_warmup", 1, "--lambda_cost", 0.5],
    "random": ["--epochs", 2, "--max_parameter_free", 0],
}
TWICE = ("evolution",)  # that the others repeat: tests/test_toy_task.py
SMALL = ["--epochs", 1, "--steps", 1, "--multiplier", 1]


def searched(capsys, tiny_flir, tiny_config, *options) -> tuple[Path, str]:
    argv = [tiny_flir, "--config", tiny_config, "--cache_features", "ram", *options]
    text = run(search, capsys, *argv)
    return named(text, "search_exp_dir"), text


def rows_of(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if not k.endswith(("_seconds", "_per_s", "_mb"))} for r in rows]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_ends_in_a_valid_genotype_and_repeats(in_work, tiny_flir, tiny_config, capsys, strategy):
    """In the richer space but for one, with two inputs per node where logits learn."""
    space = "fusion_v1" if strategy == "darts" else "fusion_v2"
    options = ["--strategy", strategy, "--space", space, *SMALL, *OWN.get(strategy, [])]
    options += ["--pair_inputs"] if STRATEGIES[strategy].searcher == "gradient" else []
    repeats = 2 if strategy in TWICE else 1
    ends = [searched(capsys, tiny_flir, tiny_config, *options)[0] for _ in range(repeats)] * (3 - repeats)
    readers = {"fusion": FusionReader(TAPS, LEVELS, 16)}
    genotypes = [read_architecture(folder / "genotype.json", readers).parts["fusion"] for folder in ends]
    assert genotypes[0] == genotypes[1]
    near = ("thermal/near1", "rgb/near1", "thermal/near2", "rgb/near2")
    assert (genotypes[0].space, genotypes[0].inputs) == (space, TAPS if space == "fusion_v1" else (*TAPS, *near))
    assert rows_of(ends[0]) == rows_of(ends[1])
    first, second = (torch.load(folder / "best.pt", weights_only=True)["model"] for folder in ends)
    assert all(torch.equal(first[name], second[name]) for name in first)
    told = read_json(ends[0] / "discretisation.json")
    assert told["chosen"] == genotypes[0].id
    rows = [row for row in rows_of(ends[0]) if "phase" not in row]
    best = max(rows, key=lambda row: row["AP_val"])  # the first of equals
    if strategy not in OWN or strategy == "random":
        assert best["genotype"] == genotypes[0].id
    if strategy == "random":
        assert {row["parameter_free"] for row in rows} == {0}
    inherits = strategy not in ("pcdarts", "random")
    assert (told["AP_val_inherited"] is not None) == inherits
    # Equal accounts: both parts once per epoch, but for logits at rest and for brief trainings.
    expected = {"drnas": [6, 9], "random": [9, 9]}.get(strategy, [9])
    assert [row["pairs"] for row in rows_of(ends[0]) if "phase" not in row] == expected


def test_a_found_network_of_the_richer_space_trains_and_tests(in_work, tiny_flir, tiny_config, capsys):
    config = ["--config", tiny_config, "--epochs", 1]
    argv = [tiny_flir, "--random_genotype", 3, "--space", "fusion_v2", *config]
    folder = named(run(found, capsys, *argv), "eval_exp_dir")
    results = read_json(named(run(found, capsys, tiny_flir, "--eval_exp_dir", folder, *config[:2]), "results"))
    assert results["macs"] > 0
    on_val = run(found, capsys, tiny_flir, "--eval_exp_dir", folder, "--eval_part", "val", *config[:2])
    results = named(on_val, "results")
    assert (results.parent / "detections.json").read_bytes() == (folder / "detections.json").read_bytes()


HASTY = ["--alternate", "step", "--arch_learning_rate", 0.3, "--eta_max", 0.03, "--epochs", 4, "--seed", 3]


def test_hasty_logits_make_plain_darts_collapse_and_warming_up_avoids_it(
    tiny_flir, tiny_config, capsys, tmp_path, monkeypatch
):
    """Constructed, on scenes of seven conditions: logits learn ten times as fast as weights, so Sum wins."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "lcnet.yaml"  # on whose taps it does
    config.write_text(tiny_config.read_text().replace("test_efficientnet", "lcnet_050"))
    run(pretrain, capsys, tiny_flir, "--config", config)
    sizes = ["--train", 32, "--val", 8, "--test", 8, "--width", 96]
    run(road_scenes, capsys, tmp_path / "scenes", "--seed", 1, *sizes)
    found = {}
    for warmup in (0, 3):
        options = [*HASTY, "--arch_warmup", warmup, "--allow_split_mismatch"]
        found[warmup] = searched(capsys, tmp_path / "scenes", config, *options)
    assert "ALARM: the search collapses" in found[0][1]
    assert free_of(found[0][0]) > 3
    assert "ALARM" not in found[3][1]
    assert free_of(found[3][0]) <= 3


# Nothing is cheaper than what has no parameters: logits that pay for parameters alone fall for it.
COLLAPSING = ["--lambda_cost", 100, "--cost", "params", "--arch_learning_rate", 0.1, "--alternate", "step"]


def test_a_collapse_raises_the_alarm_ends_early_and_can_be_capped(in_work, tiny_flir, tiny_config, capsys):
    folder, text = searched(capsys, tiny_flir, tiny_config, *COLLAPSING)
    assert "ALARM: the search collapses: 6 of 6 choices" in text
    assert free_of(folder) == 6
    prices = read_json(folder / "costs.json")["levels"]["P3"]["fusions"]
    assert prices["Sum"] == 0 < prices["ConcatConv"] < prices["ECAAttn"]
    remedies = ["--max_parameter_free", 1, "--early_stop", "parameter_free", "--epochs", 4]
    capped, text = searched(capsys, tiny_flir, tiny_config, *COLLAPSING, *remedies)
    assert free_of(capped) == 1
    assert "ALARM" not in text


def test_a_search_ends_early_by_the_count_rule(in_work, tiny_flir, tiny_config, capsys):
    stop = ["--early_stop", "parameter_free", "--epochs", 4]
    stopped, text = searched(capsys, tiny_flir, tiny_config, *COLLAPSING, *stop)
    assert "ended early: 6 choices without parameters, more than 3" in text
    assert len(rows_of(stopped)) < 4


def free_of(folder: Path) -> int:
    cells = read_json(folder / "genotype.json")["parts"]["fusion"]["cells"]
    return sum(op == "Sum" for cell in cells for step in cell["steps"] for op in step["inner_steps"])


def test_the_eigenvalue_is_logged(in_work, tiny_flir, tiny_config, capsys):
    plain, _ = searched(capsys, tiny_flir, tiny_config, "--hessian", *SMALL)
    assert all(math.isfinite(row["eigenvalue"]) for row in rows_of(plain))
    assert not (plain / "costs.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "evolution", "--pair_inputs"], "--pair_inputs: no effect with --strategy evolution"),
        (["--strategy", "random", "--topk", 2], "--topk: no effect with --strategy random"),
        (["--strategy", "random", "--candidates", 3], "--candidates: expected a divisor of 2 epochs, found 3"),
        (["--rounds", 3], "--rounds: no effect with --strategy darts"),
        (["--cost", "macs"], "--cost: no effect alone: expected --lambda_cost above 0"),
        (["--strategy", "pcdarts", "--topk", 2], "--topk: expected 1 with --strategy pcdarts (brief trainings"),
        (["--topk_epochs", 2], "--topk_epochs: no effect alone: expected --topk of at least 2"),
        (["--arch_warmup", 2], "--arch_warmup: expected less than the 2 epochs, found 2"),
        (["--strategy", "gdas", "--compile"], "--strategy gdas: expected no --compile"),
        (["--strategy", "gsad"], "--strategy"),
    ],
)
def test_what_would_be_ignored_is_refused(in_work, tiny_flir, tiny_config, capsys, options, message):
    argv = [tiny_flir, "--config", tiny_config, "--epochs", 2, *options]
    assert message in refused(search, capsys, *argv)


def test_streams_are_trained_along_where_asked(in_work, tiny_flir, tiny_config, capsys):
    ends = []
    for extra in ([], ["--stream_lr", "1e-3"]):
        argv = [tiny_flir, "--config", tiny_config, "--baseline", "sum", "--epochs", 1, "--cache_features", "auto"]
        text = run(found, capsys, *argv, *extra)
        assert ("trains the streams" in text) == bool(extra)
        folder = named(text, "eval_exp_dir")
        ends.append(torch.load(folder / "last.pt", weights_only=True)["model"])
    moved = {k for k in ends[0] if not torch.equal(ends[0][k], ends[1][k])}
    streams = {k for k in ends[0] if k.startswith("streams.")}
    assert {k.split(".")[1] for k in moved & streams} == {
        "thermal_backbone",
        "thermal_fpn",
        "rgb_backbone",
        "rgb_fpn",
    }
    assert not any("running" in k for k in moved & streams)
    argv[argv.index("auto")] = "disk"
    assert "--stream_lr 0.001 trains the streams" in refused(found, capsys, *argv, "--stream_lr", "1e-3")


def test_a_dry_run_tells_the_memory_of_what_a_step_runs(in_work, tiny_flir, tiny_config, capsys):
    """Strategies that run one path, or draw operations, take less than a mixture of all."""
    found = {}
    for strategy in ("darts", "gdas", "evolution"):
        argv = [tiny_flir, "--config", tiny_config, "--space", "fusion_v2", "--strategy", strategy, "--dry_run"]
        text = run(search, capsys, *argv)
        found[strategy] = float(re.search(r"^memory_per_pair_mib: ([\d.]+)$", text, re.MULTILINE)[1])
    assert found["evolution"] < 0.7 * found["darts"]
    assert found["gdas"] < 0.7 * found["darts"]


def test_a_last_batch_of_one_pair_does_not_end_a_search(in_work, tiny_flir, tiny_config, capsys):
    """Of 6 pairs in batches of 5, on 1x1 maps: norms cannot learn from the last."""
    folder, _ = searched(capsys, tiny_flir, tiny_config, "--image_size", 32, "--batchsize", 5, "--epochs", 1)
    assert read_json(folder / "discretisation.json")["AP_val_inherited"] is not None


def test_brief_trainings_begin_on_the_supernets_weights_and_rate_as_the_benchmark_does(
    in_work, tiny_flir, tiny_config, capsys
):
    """On the supernet's weights, and with nothing that learns, a genotype's AP is that of its inherited weights."""
    on_step_end = ["--strategy", "evolution", *OWN["evolution"], *SMALL, "--eta_max", 0, "--eta_min", 0]
    folder, _ = searched(capsys, tiny_flir, tiny_config, *on_step_end, "--topk_weights", "supernet", "--topk_epochs", 2)
    told = read_json(folder / "discretisation.json")
    rows = [row for row in rows_of(folder) if row.get("phase") == "topk"]
    assert [row["AP_val"] for row in rows[:2]] == [told["AP_val_inherited"]] * 2
    learning = ["--strategy", "evolution", *OWN["evolution"], *SMALL, "--topk_weights", "supernet"]
    folder, _ = searched(capsys, tiny_flir, tiny_config, *learning)
    ratings = []
    for number in range(2):
        out = in_work / f"ratings{number}.json"
        assert rate_genotypes([str(folder), "--genotypes", "2", "--out", str(out)]) == 0
        ratings.append(json.loads(out.read_text()))
    assert ratings[0] == ratings[1]
    assert [row["number"] for row in ratings[0]] == [0, 1]
    assert all(row["weights"] < 0 <= row["brief"] <= 1 for row in ratings[0])
