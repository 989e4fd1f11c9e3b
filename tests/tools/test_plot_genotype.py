"""The command that draws a genotype."""

import json
from pathlib import Path

import pytest
from torchvision.io import decode_image

from models.search.fusion_cells.space import fusion_space, random_genotype
from models.search.parts import PARTS, read_any
from tools.plot_genotype import main


@pytest.fixture
def run_folder(tmp_path):
    inputs = ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2")
    genotype = random_genotype(fusion_space(inputs, ("P3", "P4", "P5"), 16), 3)
    (tmp_path / "genotype.json").write_text(json.dumps(genotype.to_json()))
    return tmp_path


def test_a_run_and_a_file_give_the_same_picture(run_folder, capsys):
    assert main([str(run_folder)]) == 0
    assert capsys.readouterr().out == f"picture: {run_folder / 'genotype.png'}\n"
    assert main([str(run_folder / "genotype.json"), "--out", str(run_folder / "other.png")]) == 0
    first, second = (decode_image(str(run_folder / name)) for name in ("genotype.png", "other.png"))
    assert first.equal(second)


def test_faults_are_one_line(run_folder, capsys):
    file = run_folder / "genotype.json"
    good = json.loads(file.read_text())

    def refused(*argv) -> str:
        assert main([str(a) for a in argv]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    assert "missing.json" in refused(run_folder / "missing.json")
    assert "--out" in refused(file, "--out", run_folder / "none" / "g.png")
    assert "--out" in refused(file, "--out", run_folder / "g.jpg")
    (run_folder / "folder.png").mkdir()
    assert "expected a .png file in a folder that exists" in refused(file, "--out", run_folder / "folder.png")
    for wrong, field in (
        ({"inputs": "thermal"}, "inputs"),
        ({"levels": []}, "levels"),
        ({"cells": good["cells"][:2]}, "cells"),
        ({"format": 9}, "format"),
        ({"C": "48"}, "C"),
        ({"C": 0}, "C"),
    ):
        file.write_text(json.dumps(good | wrong))
        assert f"field {field}" in refused(file)
    file.write_text("not json")
    assert "genotype.json" in refused(run_folder)


def test_names_are_text_not_formulas(run_folder):
    file = run_folder / "genotype.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"levels": [r"$\frac$", *data["levels"][1:]]}))
    assert main([str(file)]) == 0


def test_towers_are_drawn(tmp_path, capsys):
    path = Path(__file__).resolve().parents[2] / "checkpoints/genotypes/fad_paper.json"
    assert main([str(path), "--out", str(tmp_path / "towers.png")]) == 0
    assert decode_image(str(tmp_path / "towers.png")).float().std() > 10
    (genotype,) = read_any(path).parts.values()
    assert [figure.axes[0].texts[0].get_text() for figure in PARTS["head"].figures(genotype)] == ["box", "cls"]
