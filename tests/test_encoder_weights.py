"""--encoder_weights from the command line: start, normalization, what is recorded, and what is refused."""

import hashlib
import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from datasets.generated.mmimdb import write_mmimdb
from datasets.prepare_mmimdb import prepare_mmimdb
from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from main_pretrain_mmimdb import main as pretrain_mmimdb
from tests.run_commands import named, refused, run

BACKBONE = "tf_efficientnet_lite0"  # mean and deviation of 0.5, unlike those of the data set


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(timm.create_model(BACKBONE).state_dict(), path)
    return path


@pytest.fixture
def config(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ["--config", tiny_config, "--workers", 0]


def test_from_the_file_to_the_results(tiny_flir, config, file, tmp_path, capsys):
    """The encoder starts from it, its normalization goes along to search, training and test; both are recorded."""
    start = ["--backbone", BACKBONE, "--encoder_weights", file, "--lr", 0]
    text = run(pretrain, capsys, tiny_flir, *config, *start)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"thermal encoder from {file} (SHA-256 {sha256}); not read" in text
    record = json.loads((tmp_path / "checkpoints/flira/pretrain.json").read_text())
    expected = {"file": "lite0.safetensors", "sha256": sha256}
    assert record["encoder_weights"] == {"thermal": expected, "rgb": expected}
    assert record["normalization"] == "encoder"
    assert record["data"]["normalization"] == {m: [[0.5] * 3] * 2 for m in ("rgb", "thermal")}
    streams = torch.load(next((tmp_path / "checkpoints/flira").glob("Att*")), weights_only=True)
    torch.manual_seed(0)
    model = timm.create_model(BACKBONE).state_dict()
    assert torch.equal(streams["rgb_backbone.blocks.5.1.conv_dw.weight"], model["blocks.5.1.conv_dw.weight"])

    config += ["--backbone", BACKBONE]
    searched = named(run(search, capsys, tiny_flir, *config), "search_exp_dir")
    trained = named(run(found, capsys, tiny_flir, *config, "--search_exp_dir", searched), "eval_exp_dir")
    results = named(run(found, capsys, tiny_flir, "--workers", 0, "--eval_exp_dir", trained), "results")
    results = json.loads(results.read_text())
    assert results["normalization"] == "encoder"
    assert results["encoder_weights"] == record["encoder_weights"]


def test_one_modality_from_a_file_and_the_other_afterwards(tiny_flir, config, file, tmp_path, capsys):
    start = [tiny_flir, *config, "--backbone", BACKBONE]
    run(pretrain, capsys, *start, "--modality", "rgb", "--encoder_weights", f"rgb={file}")
    error = refused(pretrain, capsys, *start, "--modality", "thermal")
    assert "--normalization: expected encoder as for rgb" in error
    run(pretrain, capsys, *start, "--modality", "thermal", "--normalization", "encoder")
    record = json.loads((tmp_path / "checkpoints/flira/pretrain.json").read_text())
    assert list(record["encoder_weights"]) == ["rgb"]
    again = ["--init", tmp_path / "checkpoints/flira", "--checkpointdir", "again"]
    run(pretrain, capsys, *start, *again, "--modality", "rgb")
    assert json.loads((tmp_path / "again/pretrain.json").read_text())["normalization"] == "encoder"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["none.pth"], ["none.pth", "no such"]),
        (["depth={file}"], ["depth", "thermal, rgb"]),
        (["{file}", "rgb={file}"], ["one file for rgb"]),
        (["{file}", "--init", "{file}"], ["--init"]),
        (["{damaged}"], ["cut.safetensors", "whole"]),
    ],
)
def test_refused(tiny_flir, config, file, tmp_path, capsys, values, words):
    damaged = tmp_path / "cut.safetensors"
    damaged.write_bytes(file.read_bytes()[:-10])
    values = [value.format(file=file, damaged=damaged) for value in values]
    error = refused(pretrain, capsys, tiny_flir, *config, "--backbone", BACKBONE, "--encoder_weights", *values)
    assert all(word in error for word in words), error


def test_imagenet_undoes_the_config(tiny_flir, config, capsys):
    """lcnet's weights are not here, so that the command which wants them says so."""
    assert "ImageNet" in refused(pretrain, capsys, tiny_flir, *config, "--imagenet")


def test_posters_start_from_the_file(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_mmimdb(tmp_path / "raw", {"train": 8, "dev": 6, "test": 4}, 1)
    prepare_mmimdb(tmp_path / "raw/multimodal_imdb.hdf5", tmp_path / "raw/split.json", tmp_path / "data")
    start = [
        tmp_path / "data",
        "--modality",
        "image",
        "--backbone",
        BACKBONE,
        "--encoder_weights",
        file,
        "--workers",
        0,
    ]
    text = run(pretrain_mmimdb, capsys, *start, "--epochs", 1, "--lr", 0)
    assert f"image encoder from {file}" in text
    record = json.loads((tmp_path / "checkpoints/mmimdb/pretrain.json").read_text())
    assert record["normalization"] == "encoder"
    assert list(record["encoder_weights"]) == ["image"]


def test_streams_of_ours_keep_the_normalization_that_they_were_trained_with(tiny_flir, config, file, tmp_path, capsys):
    config += ["--modality", "thermal", "--epochs", 1, "--lr", 0]
    run(pretrain, capsys, tiny_flir, *config, "--checkpointdir", "plain")
    plain = next((tmp_path / "plain").glob("Att*"))
    run(pretrain, capsys, tiny_flir, *config, "--encoder_weights", plain, "--checkpointdir", "kept")
    assert "normalization" not in json.loads((tmp_path / "kept/pretrain.json").read_text())
    both = ["--modality", "both", "--encoder_weights", f"thermal={plain}", f"rgb={file}"]
    assert "expected files of one normalization" in refused(pretrain, capsys, tiny_flir, *config, *both)


def test_negative_variances_are_refused(tiny_flir, config, tmp_path, capsys):
    state = timm.create_model("test_efficientnet").state_dict()
    state["bn1.running_var"] -= 2
    torch.save(state, tmp_path / "negative.pth")
    error = refused(pretrain, capsys, tiny_flir, *config, "--encoder_weights", tmp_path / "negative.pth")
    assert "bn1.running_var: expected variances from 0, found -1" in error
