"""Towers of an FCOS head on the fused detector: searched after the fusion, or with it; trained, tested, exported."""

import pytest
import torch

from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from models.search.parts import read_any
from tests.run_commands import named, refused, run
from tools.export import main as export
from tools.predict import main as predict
from utils.run_folder import read_json

SMALL = ("--head", "fcos", "--epochs", 1)
SEARCH = (*SMALL, "--steps", 1, "--multiplier", 1)


@pytest.fixture
def argv(in_work, tiny_flir, tiny_config):
    return (tiny_flir, "--config", tiny_config)


def test_towers_are_searched_behind_a_searched_fusion(argv, capsys):
    """The second file has both parts; both are trained, tested and answer from the run folder alone."""
    first = named(run(search, capsys, *argv, *SEARCH, "--search_parts", "fusion"), "search_exp_dir")
    fusion = read_any(first / "genotype.json").parts
    assert list(fusion) == ["fusion"]
    options = ("--search_parts", "head", "--genotype", first / "genotype.json")
    second = named(run(search, capsys, *argv, *SEARCH, *options), "search_exp_dir")
    both = read_any(second / "genotype.json")
    assert list(both.parts) == ["fusion", "head"]
    assert both.parts["fusion"] == fusion["fusion"]

    text = run(found, capsys, *argv, *SMALL, "--genotype", second / "genotype.json")
    trained = named(text, "eval_exp_dir")
    assert "head: new" in text
    state = torch.load(trained / "best.pt", weights_only=True)
    assert state["args"]["head_channels"] == state["args"]["C"] * 3 // 8
    results = read_json(named(run(found, capsys, *argv, "--eval_exp_dir", trained), "results"))
    assert results["method"] == f"genotype {both.id}"
    run(export, capsys, "--eval_exp_dir", trained, "--onnx", "both.onnx")  # which compares it with PyTorch
    rgb, thermal = (argv[0] / folder for folder in ("images_rgb_test/data", "images_thermal_test/data"))
    pictures = ("--rgb", next(rgb.iterdir()), "--thermal", next(thermal.iterdir()), "--out", "answers", "--score", 0)
    assert named(run(predict, capsys, "--eval_exp_dir", trained, *pictures), "detections").exists()


def test_both_parts_are_searched_together(argv, capsys):
    folder = named(run(search, capsys, *argv, *SEARCH), "search_exp_dir")
    assert list(read_any(folder / "genotype.json").parts) == ["fusion", "head"]


def test_controls_train(argv, capsys):
    drawn = named(run(found, capsys, *argv, *SMALL, "--random_genotype", 2, "--steps", 1), "eval_exp_dir")
    assert list(read_any(drawn / "genotype.json").parts) == ["fusion", "head"]
    options = ("--baseline", "sum", "--match_parameters", drawn / "genotype.json")
    widened = named(run(found, capsys, *argv, *SMALL, *options), "eval_exp_dir")
    assert read_json(widened / "args.json")["widen"]


def test_options_of_towers_need_a_head_behind_them(argv, capsys):
    text = refused(found, capsys, *argv, "--baseline", "sum", "--head_cells", 1)
    assert "--head_cells: no effect with --head efficientdet" in text
