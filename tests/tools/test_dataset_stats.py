"""The command that measures mean and deviation: against NumPy over all pixels, and taken by an own set's YAML."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.detection.opening import open_data_set
from datasets.images import read_rgb, read_thermal
from tests.run_commands import refused, run
from tests.tiny_data import make_tiny_flir
from tools.dataset_stats import main

OWN = """\
classes: [person, bike, car]
images: {thermal: "images_thermal_{list}/data", rgb: "images_rgb_{list}/data"}
annotations: {train: meta/thermal/flir_train.json, test: meta/thermal/flir_test.json}
names: {rgb: [PreviewData, RGB]}
"""


def pixels(folder: Path, description: Path) -> dict[str, np.ndarray]:
    """Give all training pixels in 0..1, (3, num) and (1, num), as the network's input has them."""
    data = open_data_set(folder, str(description))
    records = data.records["train"]
    rgb = [read_rgb(r.paths["rgb"]).numpy().reshape(3, -1) for r in records]
    thermal = [read_thermal(r.paths["thermal"], data.thermal_counts).numpy().reshape(1, -1) for r in records]
    return {name: np.concatenate(images, axis=1) / 255 for name, images in {"rgb": rgb, "thermal": thermal}.items()}


def describe(path: Path, text: str = "") -> Path:
    path.write_text(OWN + text)
    return path


def check(folder: Path, description: Path) -> None:
    """Compare the normalization of an own set with all its pixels."""
    found = open_data_set(folder, str(description)).normalization
    for modality, values in pixels(folder, description).items():
        mean, std = found[modality]
        assert len(mean) == len(std) == 3
        np.testing.assert_allclose(mean, np.broadcast_to(values.mean(axis=1), 3), atol=5.1e-5)
        np.testing.assert_allclose(std, np.broadcast_to(values.std(axis=1), 3), atol=5.1e-5)


def sixteen_bits(folder: Path) -> np.ndarray:
    """Make all thermal files PNGs of 16 bits; returns all training values."""
    values = []
    for path in sorted(folder.glob("images_thermal_*/data/*.jpeg")):
        grey = np.asarray(Image.open(path)).astype(np.uint16) * 37 + 6000 + len(values)
        path.unlink()
        Image.fromarray(grey).save(path.with_suffix(".png"))
        if "train" in str(path):
            values.append(grey.ravel())
    return np.concatenate(values)


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_tiny_flir(tmp_path / "data", num_train=4, num_test=1)


def test_an_own_set_takes_what_is_printed(folder, tmp_path, capsys):
    text = run(main, capsys, folder)
    assert text.startswith("# Measured on all pixels of the 4 training pairs")
    assert f"# python -m tools.dataset_stats {folder}\n" in text
    assert list(yaml.safe_load(text)) == ["normalization"]
    check(folder, describe(tmp_path / "own.yaml", text))


def test_a_file_holds_the_same(folder, tmp_path, capsys):
    printed = run(main, capsys, folder, "--workers", "1")
    out = tmp_path / "stats.yaml"
    assert run(main, capsys, folder, "--out", out) == f"statistics: {out}\n"
    assert yaml.safe_load(out.read_text()) == yaml.safe_load(printed)


def test_sixteen_bits_get_counts_and_are_measured_with_them(folder, tmp_path, capsys):
    values = sixteen_bits(folder)
    text = run(main, capsys, folder)
    dark, bright = yaml.safe_load(text)["thermal_counts"]
    assert dark == np.percentile(values, 0.1, method="inverted_cdf")
    assert bright == np.percentile(values, 99.9, method="inverted_cdf")
    check(folder, describe(tmp_path / "own.yaml", text))


def test_counts_that_a_set_names_are_used(folder, tmp_path, capsys):
    sixteen_bits(folder)
    named = describe(tmp_path / "named.yaml", "thermal_counts: [7000, 12000.5]\n")
    text = run(main, capsys, folder, "--dataset", named)
    assert yaml.safe_load(text)["thermal_counts"] == [7000, 12000.5]
    check(folder, describe(tmp_path / "own.yaml", text))


def test_faults_are_one_line(folder, tmp_path, capsys):
    assert "outside the data folder" in refused(main, capsys, folder, "--out", folder / "stats.yaml")
    assert "folder that exists" in refused(main, capsys, folder, "--out", tmp_path / "none" / "stats.yaml")
    first = Path(open_data_set(folder).records["train"][0].paths["thermal"])
    grey = np.asarray(Image.open(first)).astype(np.uint16)
    first.unlink()
    Image.fromarray(grey).save(first.with_suffix(".png"))
    assert "found both" in refused(main, capsys, folder)
    first.with_suffix(".png").write_bytes(b"no image")
    assert str(first.with_suffix(".png")) in refused(main, capsys, folder)
