"""Runs that are killed, stopped or damaged and go on: they end with the same bytes as runs that are not."""

import json
import os
import random
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from benchmarks import soak
from engine import feature_caching as caching
from engine.checkpointer import Checkpointer
from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from tasks.detection.flira import FLIRA as detection
from tasks.detection.task import DetectionEvaluator
from tests import processes
from tests.run_commands import named, refused, run
from utils.lock import locked

# The soak's, shorter.
CONFIG = soak.CONFIG.replace("epochs: 3, head_epochs: 3", "epochs: 2, head_epochs: 1").replace("epochs: 6", "epochs: 3")
CONFIG = CONFIG.replace("epochs: 8", "modality_dropout: 0.4, epochs: 3").replace("drpt: 0.2", "drpt: 0.2, steps: 1")
MAINS = {"pretrain": pretrain, "search": search, "found": found}


class Place(soak.Place):
    """The soak's, whose processes are forked."""

    def run(self, kind: str, *more: object, strike: dict | None = None) -> tuple[int, str]:
        words = ["-m", "benchmarks.soak", "--struck", json.dumps(strike), *self.argv(kind, *more)]
        return processes.run(words, self.root, self.root / "log.txt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> soak.Place:
    """A place where each command has run undisturbed, in this process."""
    root = tmp_path_factory.mktemp("soak")
    (root / "config.yaml").write_text(CONFIG)
    place = Place(root / "whole", soak.make_tiny_flir(root / "flir", num_train=16), root / "config.yaml", 0)
    for kind in MAINS:
        if kind == "found":
            shutil.copy(place.folder("search") / "genotype.json", place.root)
        assert go(place, kind) == 0
    return place


def go(place: soak.Place, kind: str, *more: object) -> int:
    """Run a command in this process, as `soak.struck` does in one of its own."""
    before, compute = Path.cwd(), DetectionEvaluator.compute
    os.chdir(place.root)
    DetectionEvaluator.compute = soak.mean_confidence
    try:
        return soak.main_of(place.argv(kind, *more)[0])(place.argv(kind, *more)[1:])
    finally:
        os.chdir(before)
        DetectionEvaluator.compute = compute


@pytest.fixture(scope="module")
def whole_fad(whole) -> soak.Place:
    """A place where a search of towers has run undisturbed; encoder and FPN learn along."""
    (whole.root.parent / "fad.yaml").write_text(soak.CONFIG_FAD.replace("epochs: 6", "epochs: 2"))
    place = Place(whole.root.parent / "fad", whole.data, whole.root.parent / "fad.yaml", 0, "fad")
    assert go(place, "search") == 0
    return place


@pytest.fixture
def place(whole, tmp_path) -> soak.Place:
    """An empty place for the same runs."""
    return Place(tmp_path / "place", whole.data, whole.config, 0)


def check_same(whole: soak.Place, place: soak.Place, kind: str) -> None:
    assert soak.differences(whole.folder(kind), place.folder(kind)) == []
    if kind == "pretrain":
        folder = "checkpoints/flira"
        assert soak.published(whole.root / folder) == soak.published(place.root / folder)


@pytest.mark.parametrize(
    ("kind", "strike", "workers"),
    [
        ("pretrain", {"point": "writing", "count": 2500}, 0),
        ("search", {"point": "step", "count": 9}, 1),
        ("found", {"point": "staged", "count": 2}, 0),
    ],
)
def test_a_killed_run_ends_as_a_whole_one(whole, place, kind, strike, workers):
    """Killed in the middle of a checkpoint, behind a step, between a best epoch's files; resumed with other workers."""
    whole.give(place, kind)
    code, text = place.run(kind, strike=strike | {"signal": "SIGKILL"})
    assert code == -signal.SIGKILL, text
    place.workers = workers
    assert go(place, kind) == 0
    if workers:  # the only thing that results know of the second process
        args = json.loads((place.folder(kind) / "genotype.json").read_text())["parts"]["fusion"]["meta"]["args"]
        assert args["workers"] == workers
        return check_tensors(whole.folder(kind), place.folder(kind))
    return check_same(whole, place, kind)


def test_a_killed_search_that_trains_its_encoder_ends_as_a_whole_one(whole_fad, tmp_path):
    place = Place(tmp_path / "place", whole_fad.data, whole_fad.config, 0, "fad")
    code, text = place.run("search", strike={"point": "step", "count": 5, "signal": "SIGKILL"})
    assert code == -signal.SIGKILL, text
    assert go(place, "search") == 0
    check_same(whole_fad, place, "search")


def check_tensors(one: Path, other: Path) -> None:
    states = [torch.load(f / "last.pt", weights_only=True) for f in (one, other)]
    for part in ("model", "progress"):
        assert soak.comparable(states[0][part]) == soak.comparable(states[1][part])
    for name in ("weights", "logits", "schedule", "random"):
        assert soak.comparable(states[0]["resume"][name]) == soak.comparable(states[1]["resume"][name])
    assert soak.content(one / "metrics.jsonl") == soak.content(other / "metrics.jsonl")


def test_a_signal_saves_at_the_next_step_and_exits_with_3(whole, place, monkeypatch, capsys):
    """Each in another place: a training, a validation, a pass over the logits; handlers are as before."""
    whole.give(place, "search")
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    for point, number in {"step": signal.SIGTERM, "validation": signal.SIGINT, "step end": signal.SIGUSR1}.items():
        with monkeypatch.context() as patched:
            module, owner, name, *_ = soak.POINTS[point]
            target = getattr(__import__(module, fromlist=["_"]), owner)
            patched.setattr(target, name, struck_once(getattr(target, name), 4 if point == "step end" else 1, number))
            assert go(place, "search") == 3
        err = capsys.readouterr().err
        assert f"stopped by {number.name}; " in err
        assert "--resume" in err
        assert "Traceback" not in err
    assert go(place, "search") == 0
    check_same(whole, place, "search")
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == handlers


def struck_once(original, count: int, number: int):
    calls = []

    def wrapper(*args, **options):
        calls.append(None)
        if len(calls) == count:
            os.kill(os.getpid(), number)
        return original(*args, **options)

    return wrapper


def test_a_second_ctrl_c_ends_the_process_at_once(whole, place):
    whole.give(place, "search")
    code = """
import os, signal, sys
from engine.checkpointer import Checkpointer
def twice(checkpointer):
    os.kill(os.getpid(), signal.SIGINT)
    print("noted", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
Checkpointer.on_step_end = twice
from main_darts_searchable_flira import main
sys.exit(main(sys.argv[1:]))
"""
    exit_code, text = processes.run(["-c", code, *place.argv("search")[1:]], place.root, place.root / "log.txt")
    assert exit_code == -signal.SIGINT
    assert "noted" in text
    assert "still here" not in text
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def stopped_place(whole, tmp_path_factory) -> Place:
    """A place with a search that was stopped behind its 15th step, with a checkpoint behind every second."""
    place = Place(tmp_path_factory.mktemp("stopped") / "place", whole.data, whole.config, 0)
    whole.give(place, "search")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpointer, "on_step_end", struck_once(Checkpointer.on_step_end, 15, signal.SIGTERM))
        assert go(place, "search") == 3
    return place


@pytest.fixture
def stopped(stopped_place, place, monkeypatch, capsys) -> Path:
    """The folder of a search that was stopped, in a copy of its place."""
    shutil.copytree(stopped_place.root, place.root, dirs_exist_ok=True)
    monkeypatch.chdir(place.root)
    monkeypatch.setattr(DetectionEvaluator, "compute", soak.mean_confidence)
    capsys.readouterr()
    return place.folder("search").relative_to(place.root)


def test_options_come_from_the_run(whole, place, stopped, capsys):
    """Neither data folder nor config are told again."""
    text = run(search, capsys, "--resume", stopped)
    state = re.search(r"^goes on behind epoch (\d+), step (\d+)$", text, re.MULTILINE)
    assert (int(state[1]), int(state[2])) == (2, 12), "behind the 15th batch, of which three were of validations"
    check_same(whole, place, "search")
    text = run(search, capsys, "--resume", stopped)
    assert f"{stopped} is finished: nothing to resume" in text
    assert named(text, "search_exp_dir") == stopped
    assert "next: python main_darts_found_flira.py" in text


def test_given_options_must_be_those_of_the_run(place, stopped, capsys):
    err = refused(search, capsys, place.data, "--resume", stopped, "--eta_max=0.5")
    assert err == f"error: --eta_max: expected 0.003 as in {stopped / 'args.json'}, found 0.5"
    err = refused(search, capsys, place.data, "--resume=auto", "--image_size=96x80")
    assert "--image_size: expected (64, 80) as in" in err
    (place.root / "other.yaml").write_text(CONFIG.replace("batchsize: 3", "batchsize: 4"))
    assert "--batchsize: expected 3" in refused(search, capsys, "--resume", stopped, "--config=other.yaml")
    before = (stopped / "last.pt").read_bytes()
    assert "expected a run of found, found one of 'search'" in refused(found, capsys, "--resume", stopped)
    assert "--resume: no effect" in refused(found, capsys, place.data, "--resume=auto", "--eval_exp_dir", stopped)
    assert "expected a run folder of search" in refused(search, capsys, place.data, "--resume", "runs/none")
    assert "DIR" in refused(search, capsys, "--resume=auto", "--save=new")
    assert (stopped / "last.pt").read_bytes() == before


def test_auto_takes_the_newest_of_its_name_or_begins(place, stopped, capsys, monkeypatch):
    monkeypatch.setattr(Checkpointer, "on_step_end", struck_once(Checkpointer.on_step_end, 1, signal.SIGTERM))
    older = stopped.with_name("search-EXP-20200101-000000")
    shutil.copytree(stopped, older)
    named_alike = stopped.with_name("search-EXP-2-" + stopped.name[-15:])
    shutil.copytree(stopped, named_alike)
    assert search(place.argv("search")[1:]) == 3
    assert f"resumed: search in {stopped}\n" in capsys.readouterr().out
    monkeypatch.setattr(Checkpointer, "on_step_end", struck_once(Checkpointer.on_step_end, 1, signal.SIGTERM))
    assert search(place.argv("search", "--save=other")[1:]) == 3
    assert len(list(Path("runs").glob("search-other-*"))) == 1


def test_two_processes_on_one_run(stopped, capsys):
    with locked(stopped, None, ""):
        err = refused(search, capsys, "--resume", stopped)
    assert f"{stopped}: expected a folder that nobody writes to" in err


def test_other_boxes_are_refused(place, stopped, capsys, tmp_path):
    """Nor is anything lost by it."""
    moved = tmp_path / "moved"
    shutil.copytree(place.data, moved)
    (path,) = moved.rglob("flir_train.json")
    data = json.loads(path.read_text())
    data["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(data))
    before = {p.name: p.read_bytes() for p in stopped.glob("*.pt")}
    assert "expected the pairs and boxes of this run's start" in refused(search, capsys, moved, "--resume", stopped)
    assert {p.name: p.read_bytes() for p in stopped.glob("*.pt")} == before


def test_without_a_checkpoint_a_run_begins_afresh_in_its_folder(whole, place, stopped, capsys):
    for path in stopped.glob("last*"):
        path.unlink()
    (stopped / "best.pt.next5").write_bytes(b"what a lost epoch left")
    text = run(search, capsys, "--resume", stopped)
    assert "goes on behind" not in text
    check_same(whole, place, "search")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole, place, stopped, capsys):
    last, previous = stopped / "last.pt", stopped / "last.previous.pt"
    content = last.read_bytes()
    draws = random.Random(0)
    flipped = bytearray(content)
    flipped[draws.randrange(len(flipped) // 4, len(flipped) // 2)] ^= 1
    spoilt = [content[: draws.randrange(len(content))] for _ in range(6)] + [b"", bytes(flipped)]
    kept = previous.read_bytes()
    for damaged in spoilt:
        last.write_bytes(damaged)
        previous.write_bytes(b"")
        err = refused(search, capsys, "--resume", stopped)
        assert f"{last}: " in err
        assert f"{previous}: " in err
        assert last.read_bytes() == damaged, "it is left to look at"
    previous.write_bytes(kept)
    text = run(search, capsys, "--resume", stopped)
    assert f"{last}: " in text
    assert f"goes on from {previous}" in text
    check_same(whole, place, "search")


@pytest.mark.parametrize("max_bad_steps", [0, 2])
def test_nan_reaches_no_checkpoint(place, whole, capsys, monkeypatch, max_bad_steps):
    """The log names the files; the run goes on, or stops, as asked."""
    whole.give(place, "search")
    losses, calls = detection.losses, []

    def poisoned(model, batch, *ranks):
        calls.append(batch["file_names"])
        found = losses(model, batch, *ranks)
        return {name: value * float("nan") for name, value in found.items()} if len(calls) in (3, 8) else found

    monkeypatch.setattr(detection, "losses", poisoned)
    assert go(place, "search", "--max_bad_steps", max_bad_steps) == (0 if max_bad_steps else 2)
    captured, folder = capsys.readouterr(), place.folder("search")
    if max_bad_steps:
        log = (folder / "log.txt").read_text()
        for number, at in ((1, 3), (2, 8)):
            told = f"step skipped, {number} of at most 2: loss nan, gradient norm nan: expected finite numbers; pairs "
            assert told + ", ".join(calls[at - 1]) in log
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["bad_steps"] for row in rows] == [1] + [2] * 2
        assert all(row["train_loss"] > 0 for row in rows)
    else:
        assert ", ".join(calls[2]) in captured.err
        assert "--max_bad_steps N skips up to N such steps" in captured.err
    for path in folder.glob("*.pt"):
        check_finite(torch.load(path, weights_only=True))


def check_finite(value: object) -> None:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            check_finite(item)
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        assert value.isfinite().all()


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_a_run_was_built_on_may_change_behind_it(whole, place, stopped, capsys):
    """Streams of another pretraining, with other sizes, that came after the start: the run keeps its own."""
    folder = place.root / "checkpoints/flira"
    edit(folder / "pretrain.json", image_size=[96, 96], anchor_scale=4.0)
    path = folder / "Att_Fusion_Net_Pretrained_Best.pth.tar"
    streams = torch.load(path, weights_only=True)
    torch.save({name: value * 1.5 if value.is_floating_point() else value for name, value in streams.items()}, path)
    run(search, capsys, "--resume", stopped)
    check_same(whole, place, "search")


@pytest.mark.parametrize(("name", "value"), [("seed", 7), ("eta_max", 0.5), ("image_size", [96, 80])])
def test_an_edited_run_is_refused(stopped, capsys, name, value):
    edit(stopped / "args.json", **{name: value})
    assert f"last.pt: args.{name}: expected {value} " in refused(search, capsys, "--resume", stopped)


@pytest.mark.parametrize(
    ("file", "changes"),
    [("args.json", {"data": 5}), ("command.json", {"given": 5}), ("command.json", {"typed": [[1]]})],
)
def test_files_of_a_run_may_be_spoilt(stopped, capsys, file, changes):
    edit(stopped / file, **changes)
    assert f"{file}: {next(iter(changes))}: expected" in refused(search, capsys, "--resume", stopped)


def test_an_unfinished_run_of_another_version_is_refused(stopped, capsys):
    command = json.loads((stopped / "command.json").read_text())
    del command["version"]  # as in the first version
    (stopped / "command.json").write_text(json.dumps(command))
    found = refused(search, capsys, "--resume", stopped)
    assert "found one of '0.1.0': only 0.1.0 can resume it" in found


def test_another_genotype_is_refused(whole, place, monkeypatch, capsys):
    whole.give(place, "found")
    with monkeypatch.context() as patched:
        patched.setattr(Checkpointer, "on_step_end", struck_once(Checkpointer.on_step_end, 3, signal.SIGTERM))
        assert go(place, "found") == 3
    genotype = json.loads((place.root / "genotype.json").read_text())
    edges = genotype["parts"]["fusion"]["cells"][0]["edges"]
    edges[0][1], edges[1][1] = edges[1][1], edges[0][1]
    del genotype["id"]
    (place.root / "genotype.json").write_text(json.dumps(genotype))
    before = (place.folder("found") / "genotype.json").read_bytes()
    capsys.readouterr()
    assert go(place, "found") == 2
    assert "genotype: expected" in capsys.readouterr().err
    assert (place.folder("found") / "genotype.json").read_bytes() == before


def test_auto_passes_over_what_never_began(place, stopped, capsys):
    begun = stopped.with_name("search-EXP-20991231-000000")
    begun.mkdir()
    (begun / "args.json").write_text("{}")
    text = run(search, capsys, *place.argv("search")[1:])
    assert f"resumed: search in {stopped}\n" in text
    edit(stopped / "finished.json", said=["\x1b[31mred"])
    assert "\\x1b[31mred" in run(search, capsys, "--resume", stopped)
    assert "expected auto or a run folder" in refused(search, capsys, place.data, "--resume=")


def test_features_must_be_of_the_same_kind(whole, place, monkeypatch, capsys):
    """What `auto` found room for at the start may not fit any more."""
    short = CONFIG.replace("epochs: 3", "epochs: 1")
    (place.root / "auto.yaml").write_text(short.replace("photometric: 0.3", "cache_features: auto"))
    place.config = place.root / "auto.yaml"
    whole.give(place, "search")
    with monkeypatch.context() as patched:
        patched.setattr(Checkpointer, "on_step_end", struck_once(Checkpointer.on_step_end, 3, signal.SIGTERM))
        assert go(place, "search") == 3
    with monkeypatch.context() as patched:
        for name in ("free_memory", "free_disk"):
            patched.setattr(caching, name, lambda *_: 0)
        capsys.readouterr()
        assert go(place, "search") == 2
    assert "cached features: expected off, as there is room for now, found 'taps'" in capsys.readouterr().err
    assert go(place, "search") == 0
