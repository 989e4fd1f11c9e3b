"""A folder to work in where every command of the demo and of the fusion study is a fake (fake_command.py)."""

import json
import sys
from pathlib import Path

import pytest

from models.search.fusion_cells.space import fusion_space, random_genotype

FAKE = str(Path(__file__).parent / "fake_command.py")


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, scenes: Path) -> None:
    """Work in a folder that has demo.yaml; `scenes` is what "rendering" copies."""
    inputs = tuple(f"{m}/bifpn{r}" for m in ("thermal", "rgb") for r in (1, 2))
    genotype = random_genotype(fusion_space(inputs, ("P3", "P4"), 16), 1)
    (folder / "genotype.json").write_text(json.dumps(genotype.to_json()))
    (folder / "demo.yaml").write_text("batchsize: 4\n")
    monkeypatch.setenv("FAKE_GENOTYPE", str(folder / "genotype.json"))
    monkeypatch.setenv("FAKE_SCENES", str(scenes))
    monkeypatch.chdir(folder)
    fake = lambda script, *options: [sys.executable, FAKE, script, *map(str, options)]  # noqa: E731
    monkeypatch.setattr("tools.demo.jobs.command_line", fake)


def commands() -> list[str]:
    """Return what was run in the folder so far, one line each."""
    return Path("commands.txt").read_text().splitlines() if Path("commands.txt").exists() else []
