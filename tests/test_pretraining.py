"""Pretraining beyond the plain command: modalities one by one and side by side, the stacked stream, other starts."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch

import commands.pretrain
from commands.options import parser_of
from datasets.data_module import LoaderOptions
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from engine.pretrained import make_folder
from main_darts_found_flira import main as found
from main_pretrain_flira import main as pretrain
from tasks import TASKS
from tasks.detection.predictor import Predictor
from tasks.detection.pretrain import build_detector, check_stream_sizes
from tasks.detection.task import Detection
from tests import processes
from tests.run_commands import named, refused, run
from utils.args import parse
from utils.errors import UserError
from utils.lock import locked

REPO = Path(__file__).resolve().parent.parent
STREAMS, HEAD = "Att_Fusion_Net_Pretrained_Best.pth.tar", "Head_Net_Pretrained_Best.pth.tar"
WEIGHTS = (STREAMS, HEAD, "thermal_head.pth", "rgb_head.pth")


def weights(folder: Path) -> dict[str, dict]:
    return {name: torch.load(folder / name, weights_only=True) for name in WEIGHTS}


def assert_same(ours: Path, theirs: Path) -> None:
    for name, state in weights(ours).items():
        other = weights(theirs)[name]
        assert list(state) == list(other), name
        assert all(torch.equal(state[k], other[k]) for k in state), name
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert (ours / "pretrain.json").read_bytes() == (theirs / "pretrain.json").read_bytes()


@pytest.fixture
def both(pretrained) -> Path:
    """What `--modality both` has written."""
    return pretrained / "checkpoints/flira"


@pytest.mark.parametrize("order", [("thermal", "rgb"), ("rgb", "thermal")])
def test_the_order_of_the_modalities_does_not_matter(
    both, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys, order
):
    monkeypatch.chdir(tmp_path)
    for modality in order:
        run(pretrain, capsys, tiny_flir, "--modality", modality, "--config", tiny_config)
    assert_same(tmp_path / "checkpoints/flira", both)


def test_every_phase_draws_as_if_it_were_the_first(tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    """What the order test cannot see where nothing is drawn in training, as drop path would be."""
    monkeypatch.chdir(tmp_path)
    run_epochs, states = commands.pretrain.run_epochs, []

    def spy(*args):
        states.append(torch.get_rng_state())
        run_epochs(*args)
        torch.rand(1)

    monkeypatch.setattr(commands.pretrain, "run_epochs", spy)
    run(pretrain, capsys, tiny_flir, "--config", tiny_config)
    assert len(states) == 3
    assert all(torch.equal(state, states[0]) for state in states)


def test_both_modalities_side_by_side(tiny_flir, tiny_config, tmp_path):
    """Two processes at once against one that trains both, all on one thread: the same bytes."""
    script = [REPO / "main_pretrain_flira.py", tiny_flir, "--config", tiny_config]
    running = []
    for m, folder in (("thermal", "apart"), ("rgb", "apart"), ("both", "one")):
        (tmp_path / folder).mkdir(exist_ok=True)
        running.append(processes.start([*script, "--modality", m], tmp_path / folder, tmp_path / f"{m}.txt"))
    codes = [process.wait() for process in running]
    texts = [process.output() for process in running]
    assert codes == [0, 0, 0], texts
    assert sum("the shared head is trained once it is" in text for text in texts) == 1
    assert_same(tmp_path / "apart/checkpoints/flira", tmp_path / "one/checkpoints/flira")


def test_a_later_rgb_stream_gets_its_head_from_the_thermal_one(
    both, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys
):
    """Trained again alone, at learning rate 0: the shared head is the thermal head, not the RGB one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(both, tmp_path / "checkpoints/flira")
    run(pretrain, capsys, tiny_flir, "--config", tiny_config, "--modality", "rgb", "--lr", 0)
    ours = weights(tmp_path / "checkpoints/flira")
    name = "fusion_box_net.predict.conv_pw.weight"
    assert torch.equal(ours[HEAD][name], ours["thermal_head.pth"][name])
    assert not torch.equal(ours[HEAD][name], ours["rgb_head.pth"][name])
    (tmp_path / "checkpoints/flira/thermal_head.pth").unlink()
    text = run(pretrain, capsys, tiny_flir, "--config", tiny_config, "--modality", "rgb", "--lr", 0)
    assert "thermal_head.pth: not there, so the shared head starts from rgb_head.pth" in text
    ours = torch.load(tmp_path / "checkpoints/flira" / HEAD, weights_only=True)
    assert torch.equal(ours[name], torch.load("checkpoints/flira/rgb_head.pth", weights_only=True)[name])


def test_the_lock_lets_one_in_at_a_time(tmp_path):
    make_folder(str(tmp_path))
    said, inside, order = [], threading.Event(), []

    def first():
        with locked(tmp_path, said.append, "another pretraining"):
            inside.set()
            time.sleep(0.2)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with locked(tmp_path, said.append, "another pretraining"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert said == [f"waiting: another pretraining is writing to {tmp_path}"]
    with pytest.raises(UserError, match="can be written"):
        make_folder(str(tmp_path / ".lock"))


def test_what_appears_during_training_is_checked_again(tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    """The other modality ends first, at another split: nothing is overwritten, and the line says why."""
    monkeypatch.chdir(tmp_path)
    fit = commands.pretrain.fit
    other = [str(tiny_flir), "--modality", "thermal", "--config", str(tiny_config), "--split_seed", "1"]

    def slow_fit(*args):
        monkeypatch.setattr(commands.pretrain, "fit", fit)
        state = fit(*args)
        assert pretrain(other) == 0
        return state

    monkeypatch.setattr(commands.pretrain, "fit", slow_fit)
    assert "--allow_split_mismatch" in refused(
        pretrain, capsys, tiny_flir, "--modality", "rgb", "--config", tiny_config
    )
    assert {k.split("_")[0] for k in torch.load("checkpoints/flira/" + STREAMS, weights_only=True)} == {"thermal"}


def detector(data: Path, config: Path, *options: str):
    args = parse(
        parser_of(TASKS["flira"]), [str(data), "--config", str(config), "--num-classes", "3", *options], "pretrain"
    )
    args = check_stream_sizes(args)
    parts = open_data(str(data), "flir_aligned", ImageOptions(args.image_size), LoaderOptions(batch_size=1))
    return build_detector(args, args.modality, parts.data.normalization)


@pytest.mark.parametrize("modality", ["thermal", "rgb"])
def test_starting_from_another_checkpointdir(both, tiny_flir, tiny_config, modality):
    init = ["--init", str(both), "--modality", modality]
    state = detector(tiny_flir, tiny_config, *init).state_dict()
    theirs = weights(both)
    expected = {k.removeprefix(f"{modality}_"): v for k, v in theirs[STREAMS].items() if k.startswith(modality)}
    expected |= {f"head.{k}": v for k, v in theirs[f"{modality}_head.pth"].items()}
    assert all(torch.equal(state[k], v) for k, v in expected.items())
    assert set(state) - set(expected) == {f"normalize.{modality}_{kind}" for kind in ("mean", "std")}

    more = detector(tiny_flir, tiny_config, *init, "--num-classes", "4").state_dict()
    fresh = [k for k, v in expected.items() if not torch.equal(more[k], v) if more[k].shape == v.shape]
    assert fresh == []
    changed = {k for k, v in expected.items() if more[k].shape != v.shape}
    assert changed == {f"head.fusion_class_net.predict.conv_pw.{kind}" for kind in ("weight", "bias")}
    with pytest.raises(UserError, match="fpn.*expected shape"):
        detector(tiny_flir, tiny_config, *init, "--C", "24")
    with pytest.raises(UserError, match="early_stream.pth: no such"):
        detector(tiny_flir, tiny_config, "--init", str(both), "--modality", "early")


def test_the_stacked_stream(tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    """Pretrained, found by its baseline, tested from best.pt alone; it needs no other stream and disturbs none."""
    monkeypatch.chdir(tmp_path)
    config = ["--config", tiny_config]
    text = run(pretrain, capsys, tiny_flir, "--modality", "early", *config)
    folder = tmp_path / "checkpoints/flira"
    names = {"early_stream.pth", "early_head.pth", "split.json", "pretrain.json", ".lock"}
    assert {p.name for p in folder.iterdir()} == names
    split = json.loads((folder / "split.json").read_text())["hash"]
    assert json.loads((folder / "pretrain.json").read_text())["splits"] == {"early": split}
    stream = torch.load(folder / "early_stream.pth", weights_only=True)
    assert stream["early_backbone.conv_stem.weight"].shape[1] == 4
    assert "main_darts_found_flira.py" in text
    assert "--baseline=early" in text

    text = run(found, capsys, tiny_flir, "--baseline", "early", "--epochs", 1, *config)
    assert "split of the checkpoints: same" in text
    assert "head from checkpoints/flira/early_head.pth" in text
    trained = named(text, "eval_exp_dir")
    state = torch.load(trained / "best.pt", weights_only=True)["model"]
    assert all(torch.equal(state[f"streams.{k}"], v) for k, v in stream.items())
    assert sum(k.startswith("streams.") for k in state) == len(stream)
    tested = [tiny_flir, "--eval_exp_dir", trained, "--workers", 0, "--checkpointdir", "nowhere", "--device", "cpu"]
    results = named(run(found, capsys, *tested, "--eval_part", "val"), "results")
    assert (results.parent / "detections.json").read_bytes() == (trained / "detections.json").read_bytes()
    predictor = Predictor(trained, "cpu")
    assert set(predictor.sensors) == {"rgb", "thermal"}
    assert predictor(torch.full((3, 64, 80), 90, dtype=torch.uint8), torch.full((1, 64, 80), 90, dtype=torch.uint8), 0)

    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    other = ["--modality", "rgb", "--image_size", 96, *config]
    assert "--image_size: expected [64, 80] as for early" in refused(pretrain, capsys, tiny_flir, *other)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    run(pretrain, capsys, tiny_flir, "--split_seed", 1, *config)
    splits = json.loads((folder / "pretrain.json").read_text())["splits"]
    assert splits["early"] == split != splits["thermal"]
    assert {n: (folder / n).read_bytes() for n in ("early_stream.pth", "early_head.pth")}.items() <= before.items()
    common = [tiny_flir, "--split_seed", 1, *config, "--dry_run"]
    assert f"found {split}: " in refused(found, capsys, *common, "--baseline", "early")
    run(found, capsys, *common, "--baseline", "thermal")  # whose split is known apart


def test_a_single_modality_needs_no_other(tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = run(pretrain, capsys, tiny_flir, "--modality", "rgb", "--config", tiny_config)
    assert "next: the same command with --modality thermal" in text  # a search needs both
    common = [tiny_flir, "--config", tiny_config, "--dry_run", "--baseline"]
    for baseline in ("rgb", "rgb_twice"):
        run(found, capsys, *common, baseline)
    for baseline in ("thermal", "sum"):
        assert "pretrain --modality thermal" in refused(found, capsys, *common, baseline)


def test_an_epoch_without_a_finite_loss_ends_the_training(tiny_flir, tiny_config, in_work, monkeypatch, capsys):
    def without_numbers(self, model, batch, ranks, losses=Detection.losses):
        return {name: value * torch.nan for name, value in losses(self, model, batch, ranks).items()}

    monkeypatch.setattr(Detection, "losses", without_numbers)
    argv = [str(tiny_flir), "--config", str(tiny_config), "--modality", "thermal"]
    assert "epoch 0: expected steps of finite loss, found none" in refused(pretrain, capsys, *argv)
