"""The same mistakes in the other forms of data: FLIR-Aligned's layout 3, LLVIP, M3FD and own sets, by a command."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image, write_jpeg

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from tests.run_commands import named, refused, run
from tests.tiny_sets import FORMS, make_tiny_own
from tools.check_data import main as check_data

TRIED = ("3", "1, night", "llvip", "llvip, voc", "m3fd", "own", "own, voc", "own, voc folders")


def images(folder: Path, modality: str) -> list[Path]:
    """Return the training images of a modality, whatever the form, in the order of their numbers."""
    words = {"rgb": r"_RGB\.|visible/|Vis/|rgb/", "thermal": r"_PreviewData\.|infrared/|Ir/|thermal/"}[modality]
    files = [path for path in folder.rglob("*.jp*g") if re.search(words, str(path.relative_to(folder)))]
    return sorted(files, key=lambda path: path.name)


def coco_files(folder: Path) -> list[Path]:
    """Return the COCO file of the training list; none where the form reads XML."""
    text = (folder / "my_set.yaml").read_text() if (folder / "my_set.yaml").exists() else ".json"
    files = [path for path in sorted(folder.rglob("*.json")) if "train" in str(path.relative_to(folder))]
    return files if ".json" in text else []


def change_box(folder: Path, bbox: list[float] | None, name: str | None) -> Path:
    """Give the first training box other corners, or a category or name that nobody knows; returns the file."""
    if files := coco_files(folder):
        data = json.loads(files[0].read_text())
        data["annotations"][0] |= {"bbox": bbox} if bbox else {"category_id": 77}
        files[0].write_text(json.dumps(data))
        return files[0]
    path = next(p for p in sorted(folder.rglob("*.xml")) if "<object>" in p.read_text())
    text = path.read_text()
    if bbox:
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), (*bbox[:2], bbox[0] + bbox[2], bbox[1] + bbox[3])):
            text = re.sub(rf"<{key}>[^<]*<", f"<{key}>{value}<", text, count=1)
    else:
        text = re.sub(r"<name>[^<]*<", f"<name>{name}<", text, count=1)
    path.write_text(text)
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def narrow(path: Path) -> None:
    image = decode_image(str(path), ImageReadMode.UNCHANGED)
    write_jpeg(image[:, :, :-8].contiguous(), str(path))


@pytest.fixture(params=TRIED)
def made(request, tmp_path) -> tuple[Path, list]:
    """A folder of one form, and the options that a pretraining on it takes."""
    make, dataset = FORMS[request.param]
    folder = make(tmp_path / "data")
    return folder, ["--dataset", dataset.format(folder), "--checkpointdir", tmp_path / "fresh"]


def contents(folder: Path) -> dict:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def error_of(made, tiny_config, tmp_path, monkeypatch, capsys) -> str:
    """Return the line that a pretraining ends with; the data are as before."""
    folder, options = made
    before = contents(folder)
    monkeypatch.chdir(tmp_path)
    line = refused(pretrain, capsys, folder, "--config", tiny_config, *options)
    assert contents(folder) == before
    return line


@pytest.mark.parametrize("modality", ["rgb", "thermal"])
def test_a_missing_image(made, tiny_config, tmp_path, monkeypatch, capsys, modality):
    image = images(made[0], modality)[2]
    image.unlink()
    line = error_of(made, tiny_config, tmp_path, monkeypatch, capsys)
    assert f"expected the {'RGB' if modality == 'rgb' else modality} image" in line
    assert image.stem in line


@pytest.mark.parametrize("spoil", [cut, narrow], ids=["cut", "other size"])
def test_an_image_that_is_not_as_it_should_be(made, tiny_config, tmp_path, monkeypatch, capsys, spoil):
    image = images(made[0], "rgb")[2]
    spoil(image)
    line = error_of(made, tiny_config, tmp_path, monkeypatch, capsys)
    assert str(image) in line
    assert {cut: "cannot be decoded", narrow: "found 72x64 px"}[spoil] in line


def test_cut_annotations(made, tiny_config, tmp_path, monkeypatch, capsys):
    path = (coco_files(made[0]) or sorted(made[0].rglob("*.xml")))[0]
    cut(path)
    line = error_of(made, tiny_config, tmp_path, monkeypatch, capsys)
    assert str(path) in line
    assert "stops making sense" in line


def test_a_box_far_outside(made, tiny_config, tmp_path, monkeypatch, capsys):
    path = change_box(made[0], [70, 10, 30, 10], None)
    line = error_of(made, tiny_config, tmp_path, monkeypatch, capsys)
    assert f"{path}: " in line
    assert "expected at most 2 px outside the image" in line


def test_an_unknown_category(made, tiny_config, tmp_path, monkeypatch, capsys):
    """An id that is not listed is a fault in COCO; a name that is no class is dropped and counted in Pascal VOC."""
    path = change_box(made[0], None, "unicorn")
    if path.suffix == ".json":
        line = error_of(made, tiny_config, tmp_path, monkeypatch, capsys)
        assert f"{path}: annotations[0].category_id" in line
    else:
        monkeypatch.chdir(tmp_path)
        text = run(pretrain, capsys, made[0], "--config", tiny_config, *made[1])
        assert "dropped_unicorn 1" in text


def test_no_boxes(made, tiny_config, tmp_path, monkeypatch, capsys):
    folder = made[0]
    for path in coco_files(folder):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    for path in folder.rglob("*.xml"):
        path.write_text(re.sub("<object>.*</object>", "", path.read_text()))
    line = error_of(made, tiny_config, tmp_path, monkeypatch, capsys)
    assert "annotations: expected at least one box of " in line


# Own sets: what a description can get wrong without any file being missing.


def own(tmp_path: Path, form: str = "voc") -> tuple[Path, list]:
    folder = make_tiny_own(tmp_path / "data", form)
    return folder, ["--dataset", tmp_path / "my_set.yaml"]


def describe(folder: Path, old: str, new: str) -> None:
    """Write a changed description beside the data folder."""
    text = (folder / "my_set.yaml").read_text()
    assert old in text
    (folder.parent / "my_set.yaml").write_text(text.replace(old, new))


def test_one_image_as_both(tmp_path, tiny_config, monkeypatch, capsys):
    folder, options = own(tmp_path)
    describe(folder, 'rgb: "rgb/{list}"', 'rgb: "thermal/{list}"')
    line = error_of((folder, options), tiny_config, tmp_path, monkeypatch, capsys)
    assert "found this one as RGB and as thermal" in line
    assert "names in the YAML" in line


def test_a_class_that_the_files_spell_differently(tmp_path, tiny_config, monkeypatch, capsys):
    folder, options = own(tmp_path)
    describe(folder, "[person, car]", "[Person, car]")
    line = error_of((folder, options), tiny_config, tmp_path, monkeypatch, capsys)
    assert "expected boxes of Person, found none" in line
    assert "did you mean person?" in line


def test_a_description_that_changes_after_training(tmp_path, tiny_config, monkeypatch, capsys):
    """Classes and pixels must be those that the weights have seen; the copy in a run folder will do."""
    monkeypatch.chdir(tmp_path)
    folder, dataset = own(tmp_path)
    describe(folder, "[person, car]", "[person, car]")
    common = [folder, "--config", tiny_config]
    run(pretrain, capsys, *common, *dataset)
    trained = named(run(found, capsys, *common, *dataset, "--baseline", "sum"), "eval_exp_dir")
    (tmp_path / "my_set.yaml").rename(tmp_path / "moved.yaml")
    assert "my_set.yaml: expected a readable YAML" in refused(found, capsys, *common, "--eval_exp_dir", trained)
    run(found, capsys, *common, "--eval_exp_dir", trained, "--dataset", trained / "dataset.yaml")

    counts = "xml: xml", "xml: xml\nthermal_counts: [1, 9]"
    changes = {"classes": ("[person, car]", "[car, person]"), "thermal_counts": counts}
    for name, change in changes.items():
        describe(folder, *change)
        line = refused(found, capsys, *common, "--eval_exp_dir", trained)
        assert f"best.pt: data.{name}: expected" in line
        for main, options in ((search, []), (found, ["--baseline", "sum"])):
            line = refused(main, capsys, *common, *dataset, *options)
            assert f"pretrain.json: data.{name}: expected" in line


@pytest.mark.parametrize("option", [[], ["--checkpointdir", "data/weights"]], ids=["runs", "checkpointdir"])
def test_nothing_is_written_into_the_data_folder(tmp_path, tiny_config, monkeypatch, capsys, option):
    folder, dataset = own(tmp_path)
    describe(folder, "xml: xml", "xml: xml")
    before = contents(folder)
    monkeypatch.chdir(tmp_path if option else folder)
    line = refused(pretrain, capsys, folder, "--config", tiny_config, *dataset, *option)
    assert "expected a place outside the data folder" in line
    assert contents(folder) == before


def test_reports_replace_nothing_that_is_not_theirs(tmp_path, capsys):
    folder, dataset = own(tmp_path)
    describe(folder, "xml: xml", "xml: xml")
    before = contents(tmp_path)
    for place in (folder / "x.json", dataset[1], "/dev/null", tmp_path / "none/x.json", tmp_path, ""):
        assert "--json" in refused(check_data, capsys, folder, *dataset, "--json", place)
    assert contents(tmp_path) == before
    assert Path("/dev/null").is_char_device()


def test_a_set_in_sixteen_bits_is_trained_on(tmp_path, tiny_config, monkeypatch, capsys):
    """From TIFF files of counts, with the counts in the description."""
    monkeypatch.chdir(tmp_path)
    folder, dataset = own(tmp_path)
    for path in images(folder, "thermal"):
        grey = decode_image(str(path), ImageReadMode.GRAY)[0].to(torch.int32) * 20 + 7000
        Image.fromarray(grey.numpy().astype("uint16")).save(path.with_suffix(".tiff"))
        path.unlink()
    describe(folder, "xml: xml", "xml: xml\nthermal_counts: [7000, 12100]")
    run(pretrain, capsys, folder, "--config", tiny_config, *dataset)
