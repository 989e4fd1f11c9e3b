"""A trained detector of one camera, with searched towers, for the tools that read trainings."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from main_darts_found_fad import main as found
from tests.run_commands import named, run
from tests.test_fad import CONFIG
from tests.tiny_sets import make_tiny_voc


class Trained(NamedTuple):
    data: Path
    config: Path
    run: Path


@pytest.fixture(scope="module")
def fad_runs() -> list[Trained]:
    return []


@pytest.fixture
def fad(fad_runs, tmp_path_factory, monkeypatch, capsys) -> Trained:
    """The same for all tests of a module."""
    if not fad_runs:
        folder = tmp_path_factory.mktemp("fad")
        monkeypatch.chdir(folder)
        data, config = make_tiny_voc(folder / "voc"), folder / "fad.yaml"
        config.write_text(CONFIG, encoding="utf-8")
        text = run(found, capsys, data, "--config", config, "--random_genotype", 1)
        run_folder = named(text, "eval_exp_dir").resolve()
        state = torch.load(run_folder / "best.pt", weights_only=True)
        state["model"]["head.cls_logits.bias"].zero_()  # so that it finds something
        torch.save(state, run_folder / "best.pt")
        fad_runs.append(Trained(data, config, run_folder))
    return fad_runs[0]
