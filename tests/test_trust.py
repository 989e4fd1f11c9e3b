"""What docs/security.md promises: of files that lead elsewhere, wait, are damaged or made to do harm, and of names."""

import io
import json
import os
import re
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from benchmarks.bad_inputs import (
    make_checkpoint,
    make_config,
    make_genotype,
    make_image,
    make_set,
    read_a_checkpoint,
    read_a_config,
    read_a_genotype,
    read_a_set,
    read_an_image,
)
from datasets.detection.coco_json import parse_coco
from datasets.detection.opening import open_data_set, open_source
from datasets.detection.registry import locate
from datasets.detection.voc_xml import read_names
from datasets.images import MAX_PIXELS, read_rgb
from engine.pretrained import pretrained_with
from models.detection.streams import Streams
from report.metrics import read_metrics
from report.plots import View, draw_detections, plot_curves
from tasks.detection.flira import FLIRA
from tasks.detection.stream_files import stream_sizes
from tests.spoil import LEAVING
from tests.tiny_sets import make_tiny_own
from tools.check_data import main as check_data
from tools.data_checks.records import _digest
from tools.data_checks.unlisted_files import unlisted_files
from utils import checkpoint
from utils.args import Options, command
from utils.errors import UserError, printable
from utils.untrusted import options_from_run

# Pipes, folders and devices in the place of files.

READERS = {
    "checkpoint": (make_checkpoint, read_a_checkpoint),
    "config": (make_config, read_a_config),
    "genotype": (lambda folder: make_genotype(folder, "json"), read_a_genotype),
    "own set": (lambda folder: make_set(folder, "coco", "my_set.yaml"), read_a_set),
    "COCO file": (lambda folder: make_set(folder, "coco", "annotations/train.json"), read_a_set),
    "XML file": (lambda folder: make_set(folder, "voc", "xml/000001.xml"), read_a_set),
    "list": (lambda folder: make_set(folder, "voc", "lists/train.txt"), read_a_set),
    "JPEG": (lambda folder: make_image(folder, "rgb.jpg"), read_an_image),
    "file to compare": (lambda folder: make_image(folder, "rgb.jpg"), lambda path: _digest(str(path))),
    "metrics": (lambda folder: folder / "metrics.jsonl", lambda path: read_metrics(path.parent)),
}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    make, read = READERS[name]
    path = make(tmp_path)
    path.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "folder": Path.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}[kind](path)
    errors = []

    def try_it() -> None:
        try:
            read(path)
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits"
    assert len(errors) == 1
    assert path.name in errors[0]


# Names that lead out of the data folder.


def change_name(folder: Path, number: int, name: str) -> None:
    path = folder / "annotations/train.json"
    data = json.loads(path.read_text())
    data["images"][number]["file_name"] = name
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("name", [*LEAVING, "a\0.jpg", "x" * 256, "\ud800.jpg", "thermal\\1.jpg", "//server/x"])
def test_names_in_coco_files_stay_in_the_folder(tmp_path, name):
    make_tiny_own(tmp_path)
    change_name(tmp_path, 3, name)
    change_name(tmp_path, 5, name)
    faults = []
    parsed = parse_coco(tmp_path / "annotations/train.json", ["person", "car"], {}, faults.append)
    assert [str(f).partition("json: ")[2].partition(":")[0] for f in faults] == [
        "images[3].file_name",
        "images[5].file_name",
    ]
    assert len(parsed.images) == 10
    with pytest.raises(UserError, match=r"train.json: images\[3\].file_name: expected a file name below"):
        open_data_set(tmp_path, str(tmp_path / "my_set.yaml"))


@pytest.mark.parametrize("name", [*LEAVING, "x" * 256])
def test_names_in_lists_stay_in_the_folder(tmp_path, name):
    (tmp_path / "train.txt").write_text(f"000001\n{name}\n")
    with pytest.raises(UserError, match=r"train.txt: line 2: expected a file name below the image folder"):
        read_names(tmp_path / "train.txt")


def test_a_file_outside_is_not_taken_even_where_it_is_there(tmp_path):
    """Neither by an annotated name nor by one that the rule of names makes; nor is the folder above looked through."""
    folder = make_tiny_own(tmp_path / "data", per_list=False)
    for modality in ("thermal", "rgb"):
        shutil.move(folder / modality / "000001.jpg", tmp_path / "secret.jpg")
    description = folder / "my_set.yaml"
    change_name(folder, 0, "../../secret.jpg")
    with pytest.raises(UserError, match="expected a file name below the image folder"):
        open_data_set(folder, str(description))
    change_name(folder, 0, ".zz./.zz./secret.jpg")
    description.write_text(description.read_text() + "names: {rgb: [zz, ''], thermal: [zz, '']}\n")
    source = locate(folder, str(description))
    faults = []
    records = open_source(source, faults.append).records["train"]
    assert "../../secret" in str(faults[0])
    assert len(records) == 11
    problems, whole = unlisted_files(source)
    assert "secret" not in f"{problems} {whole}"


def test_links_that_the_user_keeps_in_the_folder_are_followed(tmp_path):
    folder = make_tiny_own(tmp_path / "data", per_list=False)
    shutil.move(folder / "thermal", tmp_path / "elsewhere")
    (folder / "thermal").symlink_to(tmp_path / "elsewhere")
    assert len(open_data_set(folder, str(folder / "my_set.yaml")).records["train"]) == 12


# Images that claim more than they hold.


@pytest.mark.parametrize("form", ["rgb.jpg", "rgb.png", "thermal.tif"])
def test_images_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch, form):
    path = make_image(tmp_path, form)
    monkeypatch.setattr("datasets.images.MAX_PIXELS", 48 * 64)
    read_an_image(path)
    monkeypatch.setattr("datasets.images.MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(UserError, match="an image of 64x48 px, which are more than"):
        read_an_image(path)


def test_a_jpeg_that_claims_all_pixels_it_can(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(UserError, match="65535x65535 px"):
        read_rgb(str(path))
    path.write_bytes(b"\xff\xd8\xff" + b"\xff\0" * 50_000)
    with pytest.raises(UserError, match="without a frame"):
        read_rgb(str(path))
    assert MAX_PIXELS < 2**27


def test_a_jpeg_of_endless_scans(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path, progressive=True)
    read_rgb(str(path))
    content = path.read_bytes()
    last = content.rindex(b"\xff\xda")
    path.write_bytes(content[:last] + content[last:-2] * 100 + content[-2:])
    with pytest.raises(UserError, match="more than 64 scans"):
        read_rgb(str(path))


# Checkpoints.


def test_every_turned_bit_of_the_numbers_is_found(tmp_path):
    path = tmp_path / "a.pt"
    weights = torch.arange(64.0)
    torch.save({"w": weights}, path)
    content = path.read_bytes()
    start = content.index(weights.numpy().tobytes())
    for bit in range(0, 64 * 32, 37):
        changed = bytearray(content)
        changed[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"a\.pt: .*check sum is wrong"):
            checkpoint.load(path)


def test_files_of_older_torch_are_read(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=False)
    assert checkpoint.load(tmp_path / "a.pth.tar")["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("how", ["compressed", "twice", "other zip"])
def test_zip_files_that_torch_does_not_write(tmp_path, how):
    file = io.BytesIO()
    torch.save({"w": torch.zeros(10_000)}, file)
    method = zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "a.pt", "w", method) as new:
        for name in old.namelist() if how != "other zip" else ():
            new.writestr(name, old.read(name))
        new.writestr("readme", b"x")
        if how == "twice":
            with pytest.warns(UserWarning, match="Duplicate"):
                new.writestr("readme", b"y")
    words = {"compressed": "which is compressed", "twice": "there twice", "other zip": "expected a checkpoint"}[how]
    with pytest.raises(UserError, match=rf"a\.pt: .*{words}"):
        checkpoint.load(tmp_path / "a.pt")


WRONG = {
    "NaN": (torch.full((3, 2), float("nan")), "weight: expected finite numbers"),
    "beyond float32": (torch.full((3, 2), 1e300, dtype=torch.float64), "weight: expected finite numbers"),
    "integers": (torch.zeros(3, 2, dtype=torch.int64), "weight: expected numbers with a fraction, found whole numbers"),
    "truth values": (
        torch.zeros(3, 2, dtype=torch.bool),
        "weight: expected numbers with a fraction, found truth values",
    ),
    "complex": (torch.zeros(3, 2, dtype=torch.complex64), "weight: .*complex"),
    "sparse": (torch.zeros(3, 2).to_sparse(), "weight: .*layout sparse_coo"),
    "meta": (torch.empty(3, 2, device="meta"), "weight: .*device meta"),
    "spread": (torch.zeros(1).expand(3, 2), r"weight: .*\(3, 2\) of fewer numbers"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_states_of_other_numbers_are_refused(fault):
    layer = nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    tensor, words = WRONG[fault]
    with pytest.raises(UserError, match=f"f: {words}"):
        checkpoint.load_state(layer, layer.state_dict() | {"weight": tensor}, "f")
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    checkpoint.load_state(layer, layer.state_dict() | {"weight": torch.ones(3, 2, dtype=torch.float16)}, "f")


def test_sizes_are_those_of_the_tensors_in_the_file(tmp_path):
    """A few bytes must not make a network of many gigabytes."""
    state = Streams("lcnet_050", 16, 1, 3, ("thermal",)).state_dict()
    name = "thermal_fpn.cell.0.fnode.0.after_combine.conv.conv_pw.weight"
    for shape in ((10**6, 10**6, 1, 1), (10**6, 1, 1, 1)):
        torch.save(state | {name: torch.zeros(1).expand(shape)}, tmp_path / "a.pt")
        with pytest.raises(UserError, match=r"a\.pt: .*fewer numbers"):
            checkpoint.load(tmp_path / "a.pt")
    for change in ({name: torch.zeros(32, 16, 1, 1)}, {"thermal_fpn.cell.9999.fnode.0.x": torch.zeros(1)}):
        with pytest.raises(UserError, match=r"f: .*expected"):
            stream_sizes(state | change, "f", ("thermal",))
    same = torch.zeros(1000)
    torch.save({f"{number}": same for number in range(50)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"expected tensors of at most the file's"):
        checkpoint.load(tmp_path / "a.pt")


OPTIONS = {
    "image_size": ("64", "image_size: expected [height, width]"),
    "backbone": (["lcnet_050"], "backbone: expected a name"),
    "anchor_scale": (float("nan"), "anchor_scale: expected a number above 0"),
    "data": ([1], "data: expected an object"),
    "splits": ("same", "splits: expected an object"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_a_pretraining_that_are_none(tmp_path, name):
    value, words = OPTIONS[name]
    (tmp_path / "pretrain.json").write_text(json.dumps({name: value}))
    options = Options({}, {}, {})
    with pytest.raises(UserError, match=rf"pretrain.json: {re.escape(words)}"):
        options_from_run(
            options, pretrained_with(tmp_path), FLIRA.from_pretraining, source=str(tmp_path / "pretrain.json")
        )


# Names that speak to the terminal, or to matplotlib.

NASTY = "\x1b]0;owned\x07\x1b[31mper\nson\u202egpj"
SPELLED = r"\x1b]0;owned\x07\x1b[31mper son\u202egpj"


def test_error_lines_do_not_speak_to_the_terminal(capsys):
    @command
    def main(argv: list[str]) -> None:
        raise UserError(f"{NASTY}: expected a name{'x' * 10_000}")

    assert main([]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {SPELLED}: expected a name")
    assert err.count("\n") == 1
    assert len(err) < 5000
    assert printable("plain, ünïcode, 日本") == "plain, ünïcode, 日本"


def test_reports_do_not_speak_to_the_terminal(tmp_path, capsys):
    folder = make_tiny_own(tmp_path / "data")
    path = folder / "annotations/train.json"
    data = json.loads(path.read_text())
    data["categories"][1]["name"] = NASTY
    data["annotations"] += [data["annotations"][0] | {"category_id": 2}] * 2
    data["images"][0]["file_name"] = "\x1b[2J.jpg"
    path.write_text(json.dumps(data))
    assert check_data([str(folder), "--dataset", str(folder / "my_set.yaml")]) == 2
    out, err = capsys.readouterr()
    assert r"\x1b[31mper" in out
    assert r"\x1b[2J" in out
    assert not any(c in out + err for c in "\x1b\x07\u202e")


NAMES = (r"$\frac$", "$x_{", "_hidden", "a_b^c", "{}", "\x1b[31m", "\ud800")


def test_names_in_pictures_are_text(tmp_path, monkeypatch):
    """What would be a formula, or left out of a legend, is shown as it is."""
    shown = []
    real = Figure.savefig

    def savefig(figure, *args, **kwargs):
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
        shown.append({text.get_text().strip() for legend in legends for text in legend.get_texts()})
        shown[-1] |= {axes.get_ylabel().strip() for axes in figure.axes}
        shown[-1] |= {text.get_text().strip() for axes in figure.axes for text in axes.texts}
        return real(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    runs = {}
    for number, name in enumerate(NAMES):
        runs[name] = tmp_path / str(number)
        runs[name].mkdir()
        row = {"epoch": 0, "train_loss": 1.0, "entropy_edges": 0.1, "AP_val": None}
        (runs[name] / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    plot_curves(runs, tmp_path / "a.png")
    assert {printable(name) for name in NAMES} <= shown[-1]

    folder = make_tiny_own(tmp_path / "data")
    data = open_data_set(folder, str(folder / "my_set.yaml"))
    records = data.records["test"][: len(NAMES)]
    truth = data.ground_truth["test"]
    for image, name in zip(truth["images"], NAMES):
        image["scene"] = name
    truth["categories"] = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    view = View(r"$\alpha", "rgb", "a", [])
    draw_detections(records, truth, [view], tmp_path / "b.png", view_width=120)
    assert {printable(name) for name in NAMES} <= shown[-1]
    assert r"$\alpha" in shown[-1]


@pytest.mark.parametrize("row", [{"epoch": "1"}, {"epoch": 0, "train_loss": "x"}, {"epoch": 0, "AP_val": [1]}])
def test_metrics_that_are_no_numbers(tmp_path, row):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"metrics.jsonl: line 1: \w+: expected a number, found"):
        plot_curves({"x": tmp_path}, tmp_path / "a.png")
