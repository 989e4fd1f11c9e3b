"""A keeper takes up what waits for its own phase, and leaves what waits for another."""

from types import SimpleNamespace

import pytest

from datasets.loader import BadFiles
from engine.checkpointer import Checkpointer
from tests.engine.toy import Toy, session_of
from utils.run_folder import RunFolder


@pytest.mark.parametrize(("phase", "lost"), [("", {"best.pt", "genotype.json"}), ("topk", {"best_topk.pt"})])
def test_what_waits_for_another_phase_is_left_alone(tmp_path, phase, lost):
    waiting = ("best.pt", "genotype.json", "best_topk.pt", "best_head.pt")
    for name in waiting:
        (tmp_path / f"{name}.next3").write_text("of an epoch that was lost")
    data = SimpleNamespace(digest="data", bad_files=BadFiles(0))
    checkpointer = Checkpointer(RunFolder(tmp_path), session_of(Toy()), {"kind": "toy"}, data, "10m", phase)
    with checkpointer.running():
        pass
    left = {path.name.removesuffix(".next3") for path in tmp_path.glob("*.next3")}
    assert left == set(waiting) - lost
