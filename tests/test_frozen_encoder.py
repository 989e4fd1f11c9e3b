"""Pretraining behind an encoder that is kept: frozen, cached, or learning at a rate of its own."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

import main_pretrain_ego
import main_pretrain_mmimdb
from datasets.generated.ego import write_ego
from datasets.generated.mmimdb import write_mmimdb
from datasets.prepare_mmimdb import prepare_mmimdb
from engine.checkpointer import Checkpointer
from main_pretrain_flira import main as pretrain
from models.classification.encoders import timm_maps
from models.detection.backbones import create_encoder
from tests.run_commands import refused, run
from tests.test_resume import struck_once
from utils.run_folder import newest_run
from utils.seed import seed_everything

STREAMS = "checkpoints/flira/Att_Fusion_Net_Pretrained_Best.pth.tar"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
FREEZE, DISK = "--freeze_encoder", ("--cache_features", "disk")


@pytest.fixture
def argv(pretrained, tiny_flir, tiny_config, tmp_path, monkeypatch) -> list:
    """The command line of a pretraining of one stream and the shared head, from what another one has left."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pretrained / "checkpoints", "checkpoints")
    start = ["--init", pretrained / "checkpoints/flira", "--modality", "thermal"]
    return [tiny_flir, "--config", tiny_config, *start, "--lr", 0.01]


def encoder_changes(pretrained: Path) -> set[str]:
    """Return which kinds of the encoders' tensors differ from those at the start: parameters, or the statistics."""
    before, after = (torch.load(folder / STREAMS, weights_only=True) for folder in (pretrained, Path()))
    changed = [name for name in after if "backbone" in name and not torch.equal(before[name], after[name])]
    return {"statistics" if name.endswith(STATISTICS) else "parameters" for name in changed}


def losses() -> list[float]:
    lines = (newest_run("pretrain", "EXP") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train_loss"] for line in lines]


def filled(text: str) -> list[str]:
    """Return what each stage had to compute for the cache."""
    lines = [line for line in text.splitlines() if line.startswith("feature cache: ") and "records" in line]
    return [line.partition(": ")[2].partition(": ")[2].partition(" records")[0] for line in lines]


def test_a_frozen_encoder_stays_as_it_was(pretrained, argv, capsys):
    """Live and from a cache it teaches the same; the shared head and a second run find the maps that are there."""
    live = run(pretrain, capsys, *argv, FREEZE)
    assert "feature cache: off; --cache_features auto" in live
    assert encoder_changes(pretrained) == set()
    expected = losses()
    assert len(expected) == 2
    assert filled(run(pretrain, capsys, *argv, FREEZE, *DISK, "--seed", 3)) == ["23 thermal", "0 thermal + 23 rgb"]
    assert filled(run(pretrain, capsys, *argv, FREEZE, *DISK)) == ["0 thermal", "0 thermal + 0 rgb"]
    assert encoder_changes(pretrained) == set()
    assert losses() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_an_encoder_that_learns(pretrained, argv, capsys):
    """At a rate of its own, behind frozen statistics, or as the rest; only the shared head, behind it, has a cache."""
    run(pretrain, capsys, *argv, "--encoder_lr", 1e-3)
    assert encoder_changes(pretrained) == {"parameters"}
    text = run(pretrain, capsys, *argv, "--cache_features", "auto")
    assert encoder_changes(pretrained) == {"parameters", "statistics"}
    assert "feature cache: off; the encoder of thermal learns" in text
    assert filled(text) == ["23 thermal + 23 rgb"]


def test_what_has_no_effect_is_refused(argv, tiny_flir, tiny_config, capsys):
    assert "--encoder_lr beside it" in refused(pretrain, capsys, *argv, FREEZE, "--encoder_lr", 0.1)
    for option in ([FREEZE], ["--encoder_lr", 0.1]):
        line = refused(pretrain, capsys, tiny_flir, "--config", tiny_config, *option)
        assert f"{option[0]}: expected start weights" in line
        line = refused(pretrain, capsys, *argv, *option, "--drop_path", 0.1)
        assert f"--drop_path: no effect with {option[0]}" in line
    assert "expected --freeze_encoder" in refused(pretrain, capsys, *argv, *DISK)
    assert "--scale_jitter 0.5 2" in refused(pretrain, capsys, *argv, FREEZE, *DISK, "--scale_jitter", 0.5, 2)
    assert not Path("runs").exists()


def test_killed_and_resumed(argv, tmp_path, monkeypatch, capsys):
    """In the second epoch: the same files as of a run that was not disturbed."""
    argv += [FREEZE, "--cache_features", "ram", "--epochs", 2, "--checkpoint_every", 1, "--resume", "auto"]
    ends = []
    for count in (0, 6):
        (tmp_path / str(count)).mkdir()
        monkeypatch.chdir(tmp_path / str(count))
        if count:
            with monkeypatch.context() as patched:
                patched.setattr(
                    Checkpointer, "on_step_end", struck_once(Checkpointer.on_step_end, count, signal.SIGTERM)
                )
                assert pretrain([str(word) for word in argv]) == 3
            assert "last_thermal.pt holds epoch 1" in capsys.readouterr().err
        run(pretrain, capsys, *argv)
        ends.append({path.name: path.read_bytes() for path in Path("checkpoints/flira").iterdir()})
        ends[-1]["losses"] = losses()
    assert ends[0] == ends[1]


def test_a_dry_run_says_how_much_is_kept(argv, capsys):
    text = run(
        pretrain,
        capsys,
        *argv,
        FREEZE,
        "--dry_run",
        "--cache_dtype",
        "bfloat16",
        "--image_size",
        256,
        "--checkpointdir",
        "x",
    )
    sizes = dict(line.split(": ") for line in text.splitlines() if line.startswith("cache_"))
    channels = create_encoder("test_efficientnet").feature_info.channels()
    numbers = sum(count * (256 // stride) ** 2 for count, stride in zip(channels, (8, 16, 32)))
    assert float(sizes["cache_encoder_mib_thermal"]) == pytest.approx(23 * numbers * 2 / 2**20, abs=0.1)


@pytest.fixture
def films(tmp_path, monkeypatch) -> list:
    """The command line of a pretraining on made-up films; random weights stand for those of ImageNet."""
    write_mmimdb(tmp_path / "raw", {"train": 8, "dev": 6, "test": 4}, 1)
    prepare_mmimdb(tmp_path / "raw/multimodal_imdb.hdf5", tmp_path / "raw/split.json", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    create = timm_maps.timm.create_model
    monkeypatch.setattr(timm_maps.timm, "create_model", lambda name, *_, **values: create(name, **values))
    common = ["--workers", 0, "--device", "cpu", "--no_report", "--batchsize", 4, "--epochs", 1]
    return [tmp_path / "data", "--backbone", "test_efficientnet", *common]


def test_a_frozen_encoder_of_posters(films, capsys):
    """Its classifier learns, from a cache the same; the network of texts learns as usual, without one."""
    states = {}
    for option in ([FREEZE], [FREEZE, *DISK], ["--encoder_lr", 0.01]):
        text = run(main_pretrain_mmimdb.main, capsys, *films, *option)
        states[option[-1]] = torch.load("checkpoints/mmimdb/image_encoder.pth", weights_only=True), losses()
        if option[-1] == "disk":
            assert filled(text) == ["11 image"]
            assert "feature cache: off; the encoder of text learns" in text
    seed_everything(2)
    start = timm_maps.TimmEncoder("test_efficientnet", len(states[FREEZE][0]["classifier.bias"])).state_dict()

    def changed(option: object) -> set[str]:
        return {name for name, value in states[option][0].items() if not torch.equal(value, start[name])}

    assert changed(FREEZE) == changed("disk") == {"classifier.weight", "classifier.bias"}
    assert states["disk"][1] == pytest.approx(states[FREEZE][1], rel=1e-4, abs=1e-4)
    assert len(changed(0.01)) > 2
    assert not [name for name in changed(0.01) if name.endswith(STATISTICS)]


def test_encoders_without_start_weights(films, capsys):
    mmimdb, ego = main_pretrain_mmimdb.main, main_pretrain_ego.main
    assert "found --modality text" in refused(mmimdb, capsys, *films, FREEZE, "--modality", "text")
    assert "found --no-imagenet" in refused(mmimdb, capsys, *films, FREEZE, "--no-imagenet")
    write_ego(films[0].with_name("ego"), 1, 32, 1)
    line = refused(ego, capsys, films[0].with_name("ego"), "--freeze_encoder", "--device", "cpu")
    assert (
        "--freeze_encoder: expected start weights of rgb, depth (--encoder_weights or ImageNet's), found none" in line
    )
