"""Several processes end where one ends, whoever is killed: real ones that torchrun forks, on the tiny data.

Numbers: benchmarks/ranks_agree.py. Two machines: results/two_machines.csv.
"""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from main_darts_searchable_flira import main as search
from tests import processes
from tests.tiny_data import make_tiny_flir
from utils.run_folder import RunFolder
from utils.subprocesses import ROOT

PATIENCE = 120  # seconds


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Batches of 5, a test list of 9 pairs, a val list of one batch: two ranks do not divide them."""
    return make_tiny_flir(tmp_path_factory.mktemp("uneven") / "flir", 22, 9)


def test_two_processes_end_where_one_ends(data, tmp_path):
    """Weights and logits, by SGD in float64; the losses of Adam; what one and the same network finds."""
    one, two = (end_of(data, count, tmp_path) for count in (1, 2))
    for order in ("first", "second"):
        assert any("alpha_" in name for name in one[order])
        for name, value in one[order].items():
            assert (value - two[order][name]).abs().max() < 1e-9, (order, name)
    assert len(one["losses"]) >= 4
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert all(part["detections"] for part in one["answers"].values())
    assert two["answers"] == one["answers"]


def end_of(data: Path, count: int, folder: Path) -> dict:
    """Return where so many processes end, as `ranks_agree.run` does."""
    out = folder / f"{count}.pt"
    sizes = ["--seed", 3, "--batch", 5, "--steps", 2, "--out", out, "--weights", folder / "weights.pt"]
    words = ["-m", "benchmarks.ranks_agree", data, *sizes]
    if count == 1:
        running = [processes.start(words, folder, folder / "log.txt")]
    else:
        running = processes.start_ranks(count, words, folder, folder / "log.txt")
    for process in running:
        assert process.wait(PATIENCE) == 0, process.output()
    return torch.load(out, weights_only=True)


def start(count: int, folder: Path, script: str, *options: object) -> processes.Process:
    """Start a command by torchrun, which forks its ranks from a process that has imported the command."""
    forked = ["--run-path", "--start-method", "fork"]
    torchrun = ["--standalone", "--nproc-per-node", count, *forked, ROOT / script, *options]
    words = ["-m", "torch.distributed.run", *torchrun]
    return processes.start(words, folder, folder / "log.txt", {"OMP_NUM_THREADS": "1"})


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, in that order: of torchrun, its ranks."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc of Linux")
def test_a_killed_rank_ends_the_job_and_any_number_goes_on(data, tiny_config, pretrained, tmp_path, monkeypatch):
    shutil.copytree(pretrained / "checkpoints", tmp_path / "checkpoints")
    options = [data, "--config", tiny_config, "--batchsize", 5, "--cache_features", "ram", "--checkpoint_every", 1]
    options.append("--allow_split_mismatch")
    job = start(2, tmp_path, "main_darts_searchable_flira.py", *options, "--epochs", 4)
    ends = time.monotonic() + PATIENCE
    while "\nepoch 1" not in job.output():
        assert job.poll() is None, job.output()
        assert time.monotonic() < ends, job.output()
        time.sleep(0.05)
    _, second = children(job.pid)
    killed = time.monotonic()
    os.kill(second, signal.SIGKILL)
    assert job.wait(PATIENCE) != 0
    assert time.monotonic() - killed < 60
    lines = [line for line in job.output().splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "another process of the job has ended" in lines[0]
    (run,) = (tmp_path / "runs").iterdir()
    shutil.copytree(run, tmp_path / "runs" / "copy")
    monkeypatch.chdir(tmp_path)
    assert search(["--resume", str(run)]) == 0
    words = [ROOT / "main_darts_searchable_flira.py", "--resume", "runs/copy"]
    for rank in processes.start_ranks(2, words, tmp_path, tmp_path / "resumed.txt"):
        assert rank.wait(PATIENCE) == 0, rank.output()
    one, two = (RunFolder(folder).rows() for folder in (run, tmp_path / "runs" / "copy"))
    assert [row["epoch"] for row in one] == [row["epoch"] for row in two] == list(range(4))
    for name in ("train_loss", "arch_loss"):
        assert [row[name] for row in one] == pytest.approx([row[name] for row in two], rel=1e-2)
