"""Whatever the user gets wrong ends in one line that names the file or option, and code 2; data are never written to.

Each fault goes through the commands themselves: inside the test's process, and a dozen in processes of their own.
"""

import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torchvision.io import ImageReadMode, decode_image, write_jpeg

from main_darts_found_fad import main as fad_found
from main_darts_found_flira import main as found
from main_darts_searchable_fad import main as fad_search
from main_darts_searchable_flira import main as search
from main_pretrain_fad import main as fad_pretrain
from main_pretrain_flira import main as pretrain
from models.search.architecture import Architecture
from models.search.fusion_cells.space import fusion_space, random_genotype
from tests import processes
from tests.run_commands import named, refused, run
from tests.spoil import endless_tree
from tests.test_fad import CONFIG as FAD_CONFIG
from utils.errors import UserError
from utils.subprocesses import ROOT

TRAIN, TEST = "meta/thermal/flir_train.json", "meta/thermal/flir_test.json"
RGB, THERMAL = "images_rgb_train/data/FLIR_00003_RGB.jpg", "images_thermal_train/data/FLIR_00003_PreviewData.jpeg"


def edit(file: str, change):
    """Return a function that changes the content of an annotation file of a data folder."""

    def spoil(folder: Path) -> None:
        data = json.loads((folder / file).read_text())
        change(data)
        (folder / file).write_text(json.dumps(data))

    return spoil


def write(file: str, content: bytes):
    return lambda folder: (folder / file).write_bytes(content)


def cut(file: str, share: float):
    """Return a function that keeps the first part of a file."""

    def spoil(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: int(share * len(content))])

    return spoil


def remove(file: str):
    return lambda folder: (folder / file).unlink()


def shrink(file: str):
    """Return a function that makes an image 8 px narrower."""

    def spoil(folder: Path) -> None:
        image = decode_image(str(folder / file), ImageReadMode.UNCHANGED)
        write_jpeg(image[:, :, :-8].contiguous(), str(folder / file))

    return spoil


def keep_pairs(number: int):
    def change(data: dict) -> None:
        data["images"] = data["images"][:number]
        ids = {image["id"] for image in data["images"]}
        data["annotations"] = [item for item in data["annotations"] if item["image_id"] in ids]

    return change


def first_box(**fields):
    return edit(TRAIN, lambda data: data["annotations"][0].update(fields))


# What is done to the data folder, and what the line must hold.
BEFORE_THE_RUN = {
    "no known layout": (lambda folder: shutil.rmtree(folder / "meta"), ["known layout", TRAIN, "align_train.txt"]),
    "annotations missing": (remove(TEST), ["expected a known layout", f"found only {TRAIN}"]),
    "annotations empty": (write(TRAIN, b""), [TRAIN, "empty file"]),
    "annotations cut": (cut(TRAIN, 0.6), [TRAIN, "stops making sense"]),
    "annotations are an image": (write(TRAIN, b"\xff\xd8\xff\xe0"), [TRAIN, "expected JSON in UTF-8"]),
    "annotations are a list": (write(TEST, b"[1, 2]"), [TEST, "expected a JSON object"]),
    "no list of images": (edit(TRAIN, lambda d: d.pop("images")), [TRAIN, "images: expected a list"]),
    "no list of boxes": (edit(TRAIN, lambda d: d.pop("annotations")), [TRAIN, "annotations: expected a list"]),
    "no categories": (edit(TEST, lambda d: d.pop("categories")), [TEST, "categories: expected a list"]),
    "image without width": (edit(TRAIN, lambda d: d["images"][1].pop("width")), [TRAIN, "images[1].width"]),
    "box without corners": (edit(TRAIN, lambda d: d["annotations"][2].pop("bbox")), [TRAIN, "annotations[2].bbox"]),
    "box far outside": (first_box(bbox=[70, 10, 30, 10]), [TRAIN, "annotations[0].bbox", "px outside the image"]),
    "box beside the image": (first_box(bbox=[90, 10, 30, 10]), [TRAIN, "annotations[0].bbox", "overlaps"]),
    "unknown category": (first_box(category_id=17), [TRAIN, "annotations[0].category_id", "[1, 2, 3], found 17"]),
    "no box at all": (edit(TRAIN, lambda d: d.update(annotations=[])), [TRAIN, "at least one box of person, bike"]),
    "too few pairs": (edit(TRAIN, keep_pairs(2)), ["training pairs", "found too few pairs (2)"]),
    "RGB image missing": (remove(RGB), ["images_rgb_train", "FLIR_00003_RGB", "found none"]),
    "thermal image missing": (remove(THERMAL), ["images_thermal_train", "FLIR_00003_PreviewData", "found none"]),
    "RGB folder missing": (lambda folder: shutil.rmtree(folder / "images_rgb_test"), ["images_rgb_test", "found none"]),
}  # fmt: skip
IN_THE_RUN = {
    "RGB image cut": (cut(RGB, 0.6), ["FLIR_00003_RGB.jpg", "cannot be decoded", "--max_bad_files"]),
    "thermal image cut": (cut(THERMAL, 0.6), ["FLIR_00003_PreviewData.jpeg", "cannot be decoded"]),
    "empty image": (write(THERMAL, b""), ["FLIR_00003_PreviewData.jpeg", "cannot be decoded"]),
    "text for an image": (write(RGB, b"Not Found"), ["FLIR_00003_RGB.jpg", "cannot be decoded"]),
    "sizes differ in a pair": (shrink(RGB), ["FLIR_00003_RGB.jpg", "expected 80x64 px", "found 72x64 px"]),
    "sizes differ in the other": (shrink(THERMAL), ["FLIR_00003_PreviewData.jpeg", "found 72x64 px"]),
}  # fmt: skip
COMMANDS = {"pretrain": (pretrain, []), "search": (search, []), "found": (found, ["--baseline", "sum"])}
# Of FAD on the same data, whose RGB pictures it reads: a config of its own, and nothing of the pretrained streams.
FAD_COMMANDS = {"fad pretrain": (fad_pretrain, []), "fad search": (fad_search, [])}
FAD_COMMANDS["fad found"] = (fad_found, ["--baseline", "fcos"])
ALL_COMMANDS = COMMANDS | FAD_COMMANDS


def dealt(faults: dict, commands: Iterable[str] = ALL_COMMANDS) -> pytest.MarkDecorator:
    """Give each fault to one of the commands, which share the code that refuses it, in turn; FAD reads no thermal."""
    turns = {"pairs": itertools.cycle(c for c in commands if c in COMMANDS), "any": itertools.cycle(commands)}
    kinds = {fault: "pairs" if "thermal image" in fault or "sizes" in fault else "any" for fault in faults}
    return pytest.mark.parametrize(("fault", "command"), [(fault, next(turns[kinds[fault]])) for fault in faults])


def spoiled(tmp_path: Path, tiny_flir: Path, spoil) -> Path:
    folder = tmp_path / "data"
    shutil.copytree(tiny_flir, folder)
    spoil(folder)
    return folder


def options_of(command: str, tmp_path: Path, config: Path) -> list:
    """Return what a command needs beside its data folder; pretraining gets a checkpointdir of its own."""
    fresh = ["--checkpointdir", tmp_path / "fresh"] if "pretrain" in command else []
    if command in FAD_COMMANDS:
        config = tmp_path / "fad.yaml"
        config.write_text(FAD_CONFIG.replace("dataset: voc", "dataset: flir_aligned"), encoding="utf-8")
    return ["--config", config, *ALL_COMMANDS[command][1], *fresh]


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return what is in a folder, with the times at which it was written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@dealt(BEFORE_THE_RUN)
def test_faults_of_the_data_end_a_run_before_it_begins(
    in_work, tmp_path, tiny_flir, tiny_config, capsys, fault, command
):
    spoil, words = BEFORE_THE_RUN[fault]
    folder = spoiled(tmp_path, tiny_flir, spoil)
    before, runs = content(folder), sorted(Path("runs").iterdir())
    line = refused(ALL_COMMANDS[command][0], capsys, folder, *options_of(command, tmp_path, tiny_config))
    assert all(word in line for word in words), line
    assert content(folder) == before
    assert sorted(Path("runs").iterdir()) == runs
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    ("place", "command"),
    [
        *itertools.product(["opening.open_source", "dataset.read_rgb"], ALL_COMMANDS),
        *itertools.product(["dataset.read_thermal"], COMMANDS),
    ],
)
def test_every_command_reads_by_the_checked_readers(
    in_work, tmp_path, tiny_flir, tiny_config, monkeypatch, capsys, place, command
):
    """What is dealt to one command above ends every other, too: lists and images have one reader."""

    def read(*args, **kwargs):
        raise UserError(f"found by {place}")

    monkeypatch.setattr(f"datasets.detection.{place}", read)
    line = refused(ALL_COMMANDS[command][0], capsys, tiny_flir, *options_of(command, tmp_path, tiny_config))
    assert f"found by {place}" in line


@dealt(IN_THE_RUN)
def test_images_that_cannot_be_read_end_a_run(in_work, tmp_path, tiny_flir, tiny_config, capsys, fault, command):
    spoil, words = IN_THE_RUN[fault]
    folder = spoiled(tmp_path, tiny_flir, spoil)
    before = content(folder)
    line = refused(ALL_COMMANDS[command][0], capsys, folder, *options_of(command, tmp_path, tiny_config))
    assert all(word in line for word in words), line
    assert content(folder) == before
    assert not any((tmp_path / "fresh").glob("*.pth*")), "half a pretraining was published"


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_images_without_boxes_are_fine(in_work, tmp_path, tiny_flir, tiny_config, capsys, command):
    def keep_a_few(data: dict) -> None:
        data["annotations"] = [item for item in data["annotations"] if item["image_id"] < "FLIR_00006"]

    folder = spoiled(tmp_path, tiny_flir, edit(TRAIN, keep_a_few))
    run(ALL_COMMANDS[command][0], capsys, folder, *options_of(command, tmp_path, tiny_config), "--epochs", 1)


# Genotypes.


@pytest.fixture(scope="module")
def genotype(tmp_path_factory) -> Path:
    """A random genotype for the tiny streams, in JSON."""
    inputs = tuple(f"{modality}/bifpn{repeat}" for modality in ("thermal", "rgb") for repeat in (1, 2))
    genotype = random_genotype(fusion_space(inputs, ("P3", "P4", "P5"), 16), 3)
    path = tmp_path_factory.mktemp("genotype") / "genotype.json"
    path.write_text(json.dumps(Architecture({"fusion": genotype}).to_json()))
    return path


GENOTYPES = {
    "unknown operation": (lambda g: g["cells"][0]["edges"][0].__setitem__(0, "teleport"), "teleport"),
    "index out of range": (lambda g: g["cells"][0]["edges"][0].__setitem__(1, 99), "99"),
    "unknown fusion": (lambda g: g["cells"][1]["steps"][0]["inner_steps"].__setitem__(0, "magic"), "magic"),
    "too few cells": (lambda g: g["cells"].pop(), "cells"),
    "too many cells": (lambda g: g["cells"].append(g["cells"][0]), "cells"),
    "other channels": (lambda g: g.update(C=24), "field C"),
    "other levels": (lambda g: g.update(levels=["P3"]), "field levels"),
    "another format": (lambda g: g.update(format=99), "field format"),
}


@pytest.mark.parametrize("fault", GENOTYPES)
def test_wrong_genotypes(in_work, genotype, tmp_path, tiny_flir, tiny_config, capsys, fault):
    change, word = GENOTYPES[fault]
    data = json.loads(genotype.read_text())
    change(data["parts"]["fusion"])
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(data))
    line = refused(found, capsys, tiny_flir, "--config", tiny_config, "--genotype", path)
    assert "wrong.json" in line
    assert word in line


# Checkpoints.


@pytest.fixture
def checkpoints(in_work, tmp_path) -> Path:
    """A copy of the pretrained checkpointdir."""
    shutil.copytree("checkpoints/flira", tmp_path / "flira")
    return tmp_path / "flira"


STREAMS, HEAD = "Att_Fusion_Net_Pretrained_Best.pth.tar", "Head_Net_Pretrained_Best.pth.tar"
CHECKPOINTS = {
    "other channels": (lambda folder: None, ["--C", 24], ["--C: expected 16 as in", STREAMS]),
    "other levels": (lambda folder: None, ["--fusion_levels", 5], ["--fusion_levels: expected 3", STREAMS]),
    "other classes": (lambda folder: None, ["--num-classes", 90], [HEAD, "3 classes, but 90"]),
    "other encoder": (lambda folder: None, ["--backbone", "resnet18"], [STREAMS, "--backbone resnet18"]),
    "another split": (lambda folder: None, ["--split_seed", 1], ["pretrain.json", "--allow_split_mismatch"]),
    "streams cut": (cut(STREAMS, 0.7), [], [STREAMS, "expected a checkpoint"]),
    "head cut": (cut(HEAD, 0.3), [], [HEAD, "expected a checkpoint"]),
    "streams empty": (write(STREAMS, b""), [], [STREAMS, "expected a checkpoint"]),
    "streams are text": (write(STREAMS, b"<html>404</html>"), [], [STREAMS, "expected a checkpoint"]),
    "streams missing": (remove(STREAMS), [], [STREAMS, "no such checkpoint"]),
    "streams are a head": (lambda folder: shutil.copy(folder / HEAD, folder / STREAMS), [], [STREAMS, "expected tens"]),
    "a list": (lambda folder: torch.save([1], folder / HEAD), [], [HEAD, "expected a dict, found list"]),
}


@dealt(CHECKPOINTS, ["search", "found"])
def test_wrong_checkpoints(checkpoints, tmp_path, tiny_flir, tiny_config, capsys, fault, command):
    spoil, typed, words = CHECKPOINTS[fault]
    spoil(checkpoints)
    before, runs = content(checkpoints), sorted(Path("runs").iterdir())
    main, options = COMMANDS[command]
    line = refused(main, capsys, tiny_flir, "--config", tiny_config, "--checkpointdir", checkpoints, *options, *typed)
    assert all(word in line for word in words), line
    assert content(checkpoints) == before
    assert sorted(Path("runs").iterdir()) == runs


def without(name: str):
    return lambda state: state.pop(name)


STATES = {
    "another format": (lambda state: state.update(format=99), "format: expected 1, found 99"),
    "no format": (without("format"), "format: expected 1, found nothing"),
    "another kind": (lambda state: state.update(kind="search"), "found 'search'"),
    "no split": (without("split"), "split: expected"),
    "no options": (without("args"), "args: expected"),
    "an option less": (lambda state: state["args"].pop("backbone"), "args.backbone: expected"),
    "other sizes": (lambda state: state["args"].update(C=24), "expected shape"),
    "other classes": (lambda state: state["data"].update(classes=["bike", "person", "car"]), "found ['bike', 'person'"),
    "other pixels": (lambda state: state["data"].update(thermal_counts=[1, 2]), "data.thermal_counts: expected None"),
    "options that are none": (lambda state: state.update(args=5), "args: expected"),
    "no best epoch": (lambda state: state.update(progress={}), "progress.best: expected"),
    "a genotype of nothing": (lambda state: state.update(genotype={"C": 16}), "field format"),
    "a model of nothing": (lambda state: state.update(model={}), "found nothing"),
    "channels in words": (lambda state: state["args"].update(C="16"), "args.C: expected a whole number"),
    "a million levels": (
        lambda state: state["args"].update(fusion_levels=10**6),
        "args.fusion_levels: expected shapes",
    ),
    "an endless width": (lambda state: state["args"].update(widen=10**6), "args.widen: expected at most"),
    "a size of text": (
        lambda state: state["args"].update(image_size="64"),
        "args.image_size: expected [height, width]",
    ),
    "another baseline": (lambda state: state["args"].update(baseline="magic"), "args.baseline: expected a known one"),
    "another data set": (lambda state: state["args"].update(dataset="mars"), "args.dataset: expected a known one"),
    "another head": (lambda state: state["args"].update(head="magic"), "args.head: expected a known one"),
    "neither of two": (lambda state: state["args"].update(baseline=None), "genotype: expected one"),
    "tensors for data": (lambda state: state["data"].update(classes=torch.zeros(3)), "data: field classes: expected"),
    "a genotype without end": (
        lambda state: state.update(genotype={"cells": endless_tree()}),
        "at most 1000000 values",
    ),
    "numbers that are none": (lambda state: next(iter(state["model"].values())).fill_(float("nan")), "finite numbers"),
    "no tensors": (
        lambda state: state["model"].update(dict.fromkeys(state["model"], 3)),
        "expected a tensor, found nothing",
    ),
}


def test_wrong_checkpoints_of_a_run(in_work, tmp_path, tiny_flir, tiny_config, capsys):
    trained = named(run(found, capsys, tiny_flir, "--config", tiny_config, "--baseline", "sum"), "eval_exp_dir")
    runs = sorted(Path("runs").iterdir())
    for fault, (change, words) in STATES.items():
        state = torch.load(trained / "best.pt", weights_only=True)
        change(state)
        (tmp_path / "run").mkdir(exist_ok=True)
        torch.save(state, tmp_path / "run" / "best.pt")
        line = refused(found, capsys, tiny_flir, "--config", tiny_config, "--eval_exp_dir", tmp_path / "run")
        assert "best.pt: " in line, fault
        assert words in line, fault
    assert sorted(Path("runs").iterdir()) == runs


def test_a_test_reads_all_pairs_or_none(in_work, tmp_path, tiny_flir, tiny_config, capsys):
    trained = named(run(found, capsys, tiny_flir, "--config", tiny_config, "--baseline", "sum"), "eval_exp_dir")
    image = "images_rgb_test/data/FLIR_00014_RGB.jpg"
    folder = spoiled(tmp_path, tiny_flir, cut(image, 0.5))
    options = ["--config", tiny_config, "--eval_exp_dir", trained]
    for allowed in ([], ["--max_bad_files", 3]):
        line = refused(found, capsys, folder, *options, *allowed)
        assert "FLIR_00014_RGB.jpg" in line
        assert "--max_bad_files" not in line


# Options and places.


OPTIONS = {
    "batch size 0": (["--batchsize", 0], "--batchsize: expected a whole number from 1, found '0'"),
    "negative epochs": (["--epochs", -1], "--epochs: expected a whole number from 1, found '-1'"),
    "no number": (["--epochs", "many"], "--epochs: expected a whole number from 1, found 'many'"),
    "a device that is not there": (["--device", "cuda:99"], "--device cuda:99: expected a device of this machine"),
    "an unknown option": (["--batch_size", 4], "--batch_size: no such option (did you mean --batchsize?)"),
    "an unknown option with =": (["--epoch=4"], "--epoch: no such option (did you mean --epochs?)"),
    "nothing like it": (["--xyzzy"], "--xyzzy: no such option (see"),
    "an unknown data set": (["--dataset", "flir_alined"], "found 'flir_alined' (did you mean flir_aligned?)"),
    "a description that is not there": (["--dataset", "none.yaml"], "--dataset none.yaml: expected a readable YAML"),
    "image size": (["--image_size", "0x64"], "--image_size: expected N or HxW"),
    "bad files": (["--max_bad_files", -1], "--max_bad_files: expected a whole number from 0"),
    "a name with a slash": (["--save", "a/b"], "--save 'a/b': expected a name without slashes"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", OPTIONS)
def test_wrong_options(in_work, tmp_path, tiny_flir, tiny_config, capsys, fault, command):
    typed, words = OPTIONS[fault]
    runs = sorted(Path("runs").iterdir())
    line = refused(COMMANDS[command][0], capsys, tiny_flir, *options_of(command, tmp_path, tiny_config), *typed)
    assert words in line, line
    assert sorted(Path("runs").iterdir()) == runs


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_gpu(in_work, tmp_path, tiny_flir, tiny_config, capsys, command):
    options = [*options_of(command, tmp_path, tiny_config), "--device", "cuda"]
    assert "--device cuda: expected a device" in refused(COMMANDS[command][0], capsys, tiny_flir, *options)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_folder_that_cannot_be_written(
    pretrained, tmp_path, tiny_flir, tiny_config, monkeypatch, capsys, command
):
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("a file in its place")
    options = options_of(command, tmp_path, tiny_config)
    options += [] if command == "pretrain" else ["--checkpointdir", pretrained / "checkpoints/flira"]
    line = refused(COMMANDS[command][0], capsys, tiny_flir, *options)
    assert line.startswith("error: runs: expected a folder for runs, found a file")
    assert Path("runs").read_text() == "a file in its place"


# In processes of their own, one per command: what a shell sees.

PROCESSES = [  # script, fault of the data, options, words of the line
    ("main_pretrain_flira.py", "annotations cut", [], TRAIN),
    ("main_darts_searchable_flira.py", "RGB image cut", ["--workers", "1"], "FLIR_00003_RGB.jpg"),
    ("main_darts_found_flira.py", None, ["--baselin", "sum"], "did you mean --baseline?"),
]


def in_process(number: int, tmp_path: Path, tiny_flir: Path, tiny_config: Path, work: Path) -> str:
    """Run one of PROCESSES; returns the line on its stderr."""
    script, fault, options, words = PROCESSES[number]
    spoil = (BEFORE_THE_RUN | IN_THE_RUN)[fault][0] if fault else lambda folder: None
    folder = spoiled(tmp_path / str(number), tiny_flir, spoil)
    before = content(folder)
    fresh = ["--checkpointdir", str(tmp_path / "fresh")] if "pretrain" in script else []
    argv = [ROOT / script, folder, "--config", tiny_config, *fresh, *options]
    code, text = processes.run(argv, work, tmp_path / f"log{number}.txt")
    assert code == 2, text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    assert words in lines[0]
    assert "Traceback" not in text
    assert content(folder) == before
    return lines[0]


def test_in_processes_of_their_own(pretrained, tmp_path, tiny_flir, tiny_config):
    numbers = range(len(PROCESSES))
    assert len({in_process(number, tmp_path, tiny_flir, tiny_config, pretrained) for number in numbers}) == len(numbers)
