"""Options reach what they are for: optimisers, schedule, dropout, augmentation, loaders, sizes."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from models.detection.baselines import Widened
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.parameters import count_parameters


class Seen(dict):
    """What the commands built, by kind, in order."""

    def add(self, kind: str, value):
        self.setdefault(kind, []).append(value)
        return value


def wrap(monkeypatch, seen: Seen, place: str, name: str) -> None:
    """Record every object that `place.name` builds."""
    owner = importlib.import_module(place)
    build = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **options: seen.add(name, build(*args, **options)))


@pytest.fixture
def seen(monkeypatch, in_work) -> Seen:
    built = Seen()
    for name in ("Adam", "AdamW", "SGD"):
        wrap(monkeypatch, built, "torch.optim", name)
    for name in ("CosineAnnealingWarmRestarts", "OneCycleLR", "LambdaLR"):
        wrap(monkeypatch, built, "torch.optim.lr_scheduler", name)
    wrap(monkeypatch, built, "datasets.detection.detection_data", "DetectionTransform")
    wrap(monkeypatch, built, "datasets.data_module", "SampleLoader")
    wrap(monkeypatch, built, "commands.run", "pick_compute")
    for place in ("tasks.detection.build", "tasks.detection.pretrain"):
        wrap(monkeypatch, built, place, "FusionDetector")
    return built


DATA = ["--hflip", "0.25", "--scale_jitter", "0.5", "2", "--photometric", "0.4", "--workers", "1", "--seed", "11"]
RUN = ["--batchsize", "4", "--image_size", "96x64", "--anchor_scale", "3", "--norm_momentum", "0.3", "--clip_grad", "2"]
WEIGHTS = ["--eta_max", "0.002", "--eta_min", "1e-5", "--Ti", "3", "--Tm", "4", "--weight_decay", "0.05"]


def check_data_and_run(seen: Seen) -> None:
    augmented = [t for t in seen["DetectionTransform"] if t.train]
    plain = [t for t in seen["DetectionTransform"] if not t.train]
    assert augmented
    assert plain
    for t in augmented:
        assert (t.hflip, t.scale_jitter, t.image_size) == (0.25, (0.5, 2.0), (96, 64))
        assert t.photometry["rgb"].brightness == (0.6, 1.4)
    for loader in seen["SampleLoader"]:
        assert (loader.batches.batch_size, loader.num_workers, loader.batches.seed) == (4, 1, 11)
    assert {c.clip_grad for c in seen["pick_compute"]} == {2.0}
    model = seen["FusionDetector"][-1]
    assert model.head.anchor_scale == 3
    assert {m.momentum for m in model.head.modules() if isinstance(m, nn.BatchNorm2d)} == {0.3}


def check_weights(seen: Seen, steps_per_epoch: int) -> None:
    group = seen["Adam"][-1].param_groups[0]  # a search builds that of the logits before
    assert (group["initial_lr"], group["weight_decay"]) == (0.002, 0.05)
    (schedule,) = seen["CosineAnnealingWarmRestarts"]
    assert (schedule.T_0, schedule.T_mult, schedule.eta_min) == (3 * steps_per_epoch, 4, 1e-5)


def test_search_options(seen, tiny_flir, tiny_config):
    space = ["--steps", "1", "--multiplier", "3", "--node_steps", "2", "--node_multiplier", "2", "--drpt", "0.4"]
    arch = ["--arch_learning_rate", "0.007", "--arch_weight_decay", "0.03", "--epochs", "1"]
    argv = [str(tiny_flir), "--config", str(tiny_config), *DATA, *RUN, *WEIGHTS, *space, *arch]
    assert search(argv) == 0
    check_data_and_run(seen)
    check_weights(seen, steps_per_epoch=1)
    logits = seen["Adam"][0].param_groups[0]
    assert (logits["lr"], logits["weight_decay"], logits["betas"]) == (0.007, 0.03, (0.5, 0.999))
    fusion = seen["FusionDetector"][-1].fusions[0]
    assert isinstance(fusion, SearchableFusion)
    sizes = fusion.space
    assert (sizes.steps, sizes.multiplier, sizes.node_steps, sizes.node_multiplier) == (1, 3, 2, 2)
    assert fusion.nodes[0].dropout.p == 0.4


def test_found_options(seen, tiny_flir, tiny_config):
    argv = [str(tiny_flir), "--config", str(tiny_config), *DATA, *RUN, *WEIGHTS, "--drpt", "0.4", "--epochs", "1"]
    argv += ["--modality_dropout", "0.3"]
    assert found([*argv, "--random_genotype", "3", "--steps", "1", "--node_steps", "2"]) == 0
    check_data_and_run(seen)
    dropout = {loader.batches.train: loader.dataset.dataset.dropout for loader in seen["SampleLoader"]}
    assert dropout == {True: 0.3, False: 0.0}  # in training, and on val
    check_weights(seen, steps_per_epoch=2)
    fusion = seen["FusionDetector"][-1].fusions[0]
    assert isinstance(fusion, FoundFusion)
    assert len(fusion.nodes) == 1
    assert len(fusion.nodes[0].ops) == 2
    assert fusion.nodes[0].dropout.p == 0.4


def test_recipe_options(seen, tiny_flir, tiny_config):
    recipe = ["--recipe", "sgd_steps", "--marks", "1", "--warmup_steps", "3", "--warmup_kind", "constant"]
    recipe += [
        "--momentum",
        "0.8",
        "--biases_apart",
        "--eta_max",
        "0.004",
        "--weight_decay",
        "0.05",
        "--stream_lr",
        "0.001",
    ]
    assert found([str(tiny_flir), "--config", str(tiny_config), "--epochs", "2", "--baseline", "sum", *recipe]) == 0
    (optimizer,), (schedule,) = seen["SGD"], seen["LambdaLR"]
    assert [(g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.004, 0.05),
        (0.008, 0.0),
        (0.001, 0.05),
        (0.002, 0.0),
    ]
    assert {g["momentum"] for g in optimizer.param_groups} == {0.8}
    assert schedule.lr_lambdas[0](0) == schedule.lr_lambdas[0](1) == pytest.approx(1 / 3)
    assert schedule.get_last_lr()[0] == pytest.approx(0.0004), "one epoch, then a tenth"


def test_baseline_options(seen, tiny_flir, tiny_config, tmp_path, capsys):
    """The baseline decides which streams are built, --match_parameters how wide its fusions are."""
    argv = [str(tiny_flir), "--config", str(tiny_config), "--epochs", "1"]
    assert found([*argv, "--random_genotype", "3"]) == 0
    (folder,) = (x[14:] for x in capsys.readouterr().out.splitlines() if x.startswith("eval_exp_dir: "))
    assert found([*argv, "--baseline", "rgb_twice"]) == 0
    assert found([*argv, "--baseline", "mean", "--match_parameters", folder]) == 0
    searched, twice, wide = seen["FusionDetector"]
    assert (twice.streams.modalities, wide.streams.modalities) == (("rgb",), ("thermal", "rgb"))
    assert all(isinstance(fusion, Widened) for fusion in wide.fusions)
    assert count_parameters(wide.fusions) == pytest.approx(count_parameters(searched.fusions), rel=0.1)


def test_pretraining_options(seen, tiny_flir, tiny_config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    changed = ["--lr", "0.004", "--weight_decay", "0.06", "--warmup", "0.3", "--epochs", "2", "--head_epochs", "1"]
    sizes = ["--num_input_nodes", "6", "--fusion_levels", "4", "--C", "24", "--checkpointdir", "elsewhere"]
    names = ["--fullbb_path", "streams.pt", "--head_path", "head.pt", "--num-classes", "5"]
    argv = [str(tiny_flir), "--config", str(tiny_config), *DATA, *RUN, *changed, *sizes, *names]
    assert pretrain(argv) == 0
    check_data_and_run(seen)
    assert [o.param_groups[0]["weight_decay"] for o in seen["AdamW"]] == [0.06] * 3
    assert [s.total_steps for s in seen["OneCycleLR"]] == [4, 4, 2]
    assert {o.param_groups[0]["max_lr"] for o in seen["AdamW"]} == {0.004}
    streams = torch.load("elsewhere/streams.pt", weights_only=True)
    assert streams["rgb_fpn.cell.2.fnode.5.after_combine.conv.conv_pw.weight"].shape == (24, 24, 1, 1)
    assert torch.load("elsewhere/head.pt", weights_only=True)["fusion_class_net.predict.conv_pw.bias"].shape == (45,)


def test_accumulation_options(seen, tiny_flir, tiny_config, monkeypatch, tmp_path, capsys):
    """Dry runs and schedules count steps of two batches, of weights and logits; an odd batch is a step of its own."""
    argv = [str(tiny_flir), "--config", str(tiny_config), "--batchsize", "2", "--accum", "2", "--epochs", "2"]
    small = ["--steps", "1", "--multiplier", "1"]
    for main, extra in ((search, small), (found, ["--baseline", "sum"])):
        assert main([*argv, *extra]) == 0
        assert main([*argv, *extra, "--dry_run"]) == 0
        loader = next(loader for loader in reversed(seen["SampleLoader"]) if loader.batches.train)
        assert len(loader) == {search: 3, found: 5}[main]
        assert f"steps_per_epoch: {2 if main is search else 3}" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert pretrain([*argv, "--head_epochs", "3"]) == 0
    assert {c.accum for c in seen["pick_compute"]} == {2}
    assert [(s.T_0, s.last_epoch) for s in seen["CosineAnnealingWarmRestarts"]] == [(5 * 2, 2 * 2), (5 * 3, 2 * 3)]
    assert [s.total_steps for s in seen["OneCycleLR"]] == [2 * 3, 2 * 3, 3 * 3]
    assert [steps_of(o) for o in seen["Adam"]] == [2, 4, 6]  # of a search's logits and weights, of a training
    assert [steps_of(o) for o in seen["AdamW"]] == [6, 6, 9]


def steps_of(optimizer: torch.optim.Optimizer) -> int:
    return int(next(iter(optimizer.state.values()))["step"])


def test_a_search_hands_its_sizes_on(seen, tiny_flir, tiny_config, capsys):
    """Not what the pretraining had: the found network is trained at the search's image size and anchors."""
    common = [str(tiny_flir), "--batchsize", "3", "--workers", "0", "--epochs", "1", "--device", "cpu"]
    assert search([*common, "--image_size", "96", "--anchor_scale", "3", "--steps", "1", "--multiplier", "1"]) == 0
    text = capsys.readouterr().out
    assert "--image_size: (96, 96), though the streams were pretrained with [64, 80]" in text
    (folder,) = (x[16:] for x in text.splitlines() if x.startswith("search_exp_dir: "))
    assert found([*common, "--search_exp_dir", folder]) == 0
    assert seen["FusionDetector"][-1].head.anchor_scale == 3
    assert seen["DetectionTransform"][-1].image_size == (96, 96)


def test_amp_and_parallel_are_heard(in_work, tiny_flir, tiny_config, capsys):
    """One changes the numbers a little, the other speaks."""
    ends = []
    for extra in ([], ["--amp", "--parallel"]):
        argv = [str(tiny_flir), "--config", str(tiny_config), "--baseline", "concat_conv", "--epochs", "1", *extra]
        assert found(argv) == 0
        text = capsys.readouterr().out
        assert ("--parallel: " in text) == bool(extra)
        (folder,) = (x[14:] for x in text.splitlines() if x.startswith("eval_exp_dir: "))
        state = torch.load(Path(folder) / "last.pt", weights_only=True)["model"]
        ends.append(torch.cat([v.flatten() for k, v in state.items() if k.startswith("fusions")]))
    assert not torch.equal(*ends)
    torch.testing.assert_close(*ends, rtol=0.2, atol=0.02)


def test_deterministic_is_asked_of_torch(in_work, tiny_flir, tiny_config, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    argv = [str(tiny_flir), "--config", str(tiny_config), "--epochs", "1"]
    try:
        assert search([*argv, "--deterministic"]) == 0
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


def test_compile_takes_every_block(in_work, tiny_flir, tiny_config, monkeypatch, capsys):
    """Traced as a whole, without the C++ compiler's minutes: the same losses."""
    compiled, losses = [], []
    compile_as_usual = nn.Module.compile

    def trace(module: nn.Module) -> None:
        compiled.append(type(module).__name__)
        compile_as_usual(module, backend="eager", fullgraph=True)

    monkeypatch.setattr(nn.Module, "compile", trace)
    argv = [str(tiny_flir), "--config", str(tiny_config), "--epochs", "1", "--cache_features", "ram"]
    argv += ["--steps", "1", "--multiplier", "1"]
    for extra in ([], ["--compile"]):
        assert search([*argv, *extra]) == 0
        (folder,) = (x[16:] for x in capsys.readouterr().out.splitlines() if x.startswith("search_exp_dir: "))
        row = json.loads((Path(folder) / "metrics.jsonl").read_text())
        losses.append(torch.tensor([row["train_loss"], row["arch_loss"]]))
    assert compiled == [*["EfficientNetFeatures", "BiFPN"] * 2, *["SearchableFusion"] * 3, "DetectionHead"]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


def test_compile_needs_a_compiler(in_work, tiny_flir, tiny_config, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert search([str(tiny_flir), "--config", str(tiny_config), "--compile"]) == 2
    assert "--compile: expected a C++ compiler" in capsys.readouterr().err
