"""FAD from the command line: pretraining, search, training, test, baselines, published pairs, and what is refused."""

from pathlib import Path

import pytest
import torch

from main_darts_found_fad import main as found
from main_darts_searchable_fad import main as search
from main_pretrain_fad import main as pretrain
from models.search.parts import read_any
from tests.run_commands import named, refused, run
from tests.tiny_sets import make_tiny_voc
from tools.export import main as export
from tools.predict import main as predict
from tools.profile import main as profile
from utils.run_folder import read_json

GENOTYPES = Path(__file__).resolve().parent.parent / "checkpoints/genotypes"
CONFIG = """\
backbone: test_efficientnet
C: 16
image_size: 96x160
dataset: voc
batchsize: 3
workers: 0
device: cpu
no_report: true
no-imagenet: true
epochs: 1
search: {head_channels: 8}
found: {head_channels: 8}
"""


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return make_tiny_voc(tmp_path_factory.mktemp("voc"))


@pytest.fixture
def argv(voc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fad.yaml").write_text(CONFIG, encoding="utf-8")
    return [voc, "--config", "fad.yaml"]


def test_from_the_pretraining_to_the_results(argv, capsys):
    """The search starts from the encoder and the FPN of detector.pth, and trains them along with the towers."""
    text = run(pretrain, capsys, *argv)
    assert "encoder of random weights" in text
    start = torch.load("checkpoints/fad/detector.pth", weights_only=True)
    text = run(search, capsys, *argv)
    assert "split of the checkpoints: same" in text
    assert "encoder and FPN from checkpoints/fad/detector.pth" in text
    searched = named(text, "search_exp_dir")
    state = torch.load(searched / "best.pt", weights_only=True)["model"]
    moved = {name for name in start if name.startswith("streams.") and not torch.equal(state[name], start[name])}
    assert "streams.rgb_fpn.pyramid.inner_blocks.0.0.weight" in moved
    assert any(name.startswith("streams.rgb_backbone.blocks.3") for name in moved)
    assert not [name for name in moved if "conv_stem" in name or "bn1" in name]
    genotype = read_any(searched / "genotype.json").parts["head"]
    assert genotype.levels == ("box", "cls")

    argv[-1] = "with_report.yaml"
    Path(argv[-1]).write_text(CONFIG.replace("no_report: true\n", ""), encoding="utf-8")
    trained = named(run(found, capsys, *argv, "--search_exp_dir", searched), "eval_exp_dir")
    assert (trained / "report.html").exists()
    state = torch.load(trained / "best.pt", weights_only=True)
    state["model"]["head.cls_logits.bias"] += 4  # one epoch finds nothing
    torch.save(state, trained / "best.pt")
    tested = named(run(found, capsys, *argv, "--eval_exp_dir", trained), "results")
    results = read_json(tested)
    assert results["method"] == f"genotype {genotype.id}"
    assert results["pairs"] == 4
    assert results["normalization"] == "encoder"

    run(export, capsys, "--eval_exp_dir", trained, "--weights", "towers.safetensors")
    alone = ("--eval_exp_dir", "towers.safetensors", "--rgb", argv[0] / "JPEGImages", "--out", "found", "--score", 0)
    predicted = read_json(named(run(predict, capsys, *alone), "detections"))["annotations"]
    found_in_test = {(one["score"], *one["bbox"]) for one in read_json(tested.parent / "detections.json", list)}
    assert found_in_test
    assert found_in_test <= {(one["score"], *one["bbox"]) for one in predicted}
    text = run(profile, capsys, "--eval_exp_dir", trained, "--rounds", 1)
    assert all(f"| {part} |" in text for part in ("rgb stream", "towers", "head", "fcos_wired"))


def test_sizes_that_the_tensors_of_a_run_do_not_have_are_refused(argv, capsys):
    folder = named(run(found, capsys, *argv, "--baseline", "fcos"), "eval_exp_dir")
    state = torch.load(folder / "best.pt", weights_only=True)
    for name, value in {"C": 32, "num_classes": 90, "widen": 2**20, "head_cells": 2**20}.items():
        torch.save(state | {"args": state["args"] | {name: value}}, folder / "best.pt")
        assert "best.pt: " in refused(found, capsys, *argv, "--eval_exp_dir", folder)


FROZEN = {"--freeze_encoder": "--freeze_encoder: expected start weights", "--encoder_lr 1e-4": "--encoder_lr: expected"}


@pytest.mark.parametrize("options", FROZEN)
def test_encoders_that_cannot_be_kept_are_refused(argv, capsys, options):
    assert FROZEN[options] in refused(pretrain, capsys, *argv, *options.split())


def test_a_frozen_pyramid_is_cached(argv, capsys):
    """With and without the cache, a search behind a frozen pyramid logs the same numbers."""
    run(pretrain, capsys, *argv)
    frozen, rows = ("--stream_lr", 0, "--hflip", 0), []
    for cache in ("off", "ram"):
        folder = named(run(search, capsys, *argv, *frozen, "--cache_features", cache), "search_exp_dir")
        rows.append((folder / "genotype.json").read_text().partition('"meta"')[0])
    assert rows[0] == rows[1]


@pytest.mark.parametrize("source", ["fad_paper.json", "fad_other.log"])
def test_published_pairs_train(argv, capsys, source):
    text = run(found, capsys, *argv, "--genotype", GENOTYPES / source, "--checkpointdir", "none")
    assert "split of the checkpoints: none: encoder weights alone" in text
    assert named(text, "eval_exp_dir").exists()


def test_plain_towers_are_widened_to_a_genotype(argv, capsys):
    path = GENOTYPES / "fad_paper.json"
    text = run(found, capsys, *argv, "--baseline", "fcos_wired", "--match_parameters", path, "--dry_run")
    assert "parameters_towers" in text
    folder = named(run(found, capsys, *argv, "--baseline", "fcos", "--match_macs", path), "eval_exp_dir")
    state = torch.load(folder / "best.pt", weights_only=True)
    assert state["args"]["widen"] != 16
    results = read_json(named(run(found, capsys, *argv, "--eval_exp_dir", folder), "results"))
    assert results["method"] == "fcos widened"


@pytest.mark.parametrize("strategy", ["darts2", "gdas", "random", "evolution"])
def test_strategies_search_towers(argv, capsys, strategy):
    rounds = ("--rounds", 4, "--population", 2, "--tournament", 2) if strategy == "evolution" else ()
    text = run(search, capsys, *argv, "--strategy", strategy, "--towers", "cls", *rounds)
    assert read_any(named(text, "search_exp_dir") / "genotype.json").parts["head"].levels == ("cls",)


REFUSED = {
    "--strategy pcdarts": "--strategy pcdarts: expected another strategy for towers",
    "--stream_lr 0": "--stream_lr 0: expected checkpoints/fad/detector.pth, whose FPN is kept, found none",
    "--image_size 96x128": "--image_size: expected a side above 128 px, found 96x128",
    "--head retinanet --box_loss iou": "--box_loss: no effect with --head retinanet",
    "--camera thermal": "expected images of thermal, which the network reads, found only rgb",
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_cannot_be_searched_is_refused(argv, capsys, options):
    assert REFUSED[options] in refused(search, capsys, *argv, *options.split())
