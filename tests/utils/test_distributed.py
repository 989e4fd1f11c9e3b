"""Ranks: what they divide, exchange, decide and say."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import distributed as dist

from engine.compute import device_of_rank, pick_compute
from tests import processes
from tests.thread_ranks import together
from utils import distributed
from utils.distributed import SINGLE_PROCESS, PeerLostError, Ranks
from utils.errors import UserError
from utils.launch import RelaunchRequest, launch, start_several
from utils.run_folder import RunFolder
from utils.subprocesses import ROOT


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("num", [0, 1, 5, 7, 12])
def test_shares_and_turns_divide_everything_evenly(count, num):
    items, each = list(range(num)), [Ranks(number, count) for number in range(count)]
    shares, turns = [rank.shard(items) for rank in each], [rank.stride(items) for rank in each]
    assert [item for share in shares for item in share] == items
    assert sorted(item for turn in turns for item in turn) == items
    for parts in (shares, turns):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_means_are_those_over_ranks():
    def work(ranks: Ranks) -> list[torch.Tensor]:
        return ranks.mean([torch.full((2, 3), float(ranks.number)), torch.tensor(10.0 * ranks.number)])

    for matrix, number in together(3, work):
        assert matrix.tolist() == [[1.0] * 3] * 2
        assert number.item() == 10.0
    given = [torch.ones(2)]
    assert SINGLE_PROCESS.mean(given) is given


@pytest.fixture
def store(monkeypatch):
    """What ranks leave word in: here a store of this process alone."""
    kept = dist.HashStore()
    monkeypatch.setattr(distributed, "_job", distributed._Job(Ranks(1, 2), Ranks(1, 2), kept))
    monkeypatch.setattr(distributed, "SECONDS_FOR_REASONS", 0.0)
    return kept


def test_an_error_that_all_ranks_meet_is_said_once(store, capsys):
    for line in ("error: one", "error: one", "error: two"):
        distributed.say_once(line)
    assert capsys.readouterr().err.splitlines() == ["error: one", "error: two"]


@pytest.mark.parametrize("told", [False, True])
def test_a_loss_is_said_where_nobody_said_why(store, told, capsys):
    if told:
        distributed.say_once("error: the reason")
        capsys.readouterr()
    for address in ("[::1]:1", "[::1]:2"):
        distributed.say_lost(PeerLostError(f"Connection closed by peer {address}"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (0 if told else 1)
    assert told or ("another process of the job has ended" in lines[0] and "--resume" in lines[0])


@pytest.mark.parametrize("told", [False, True])
def test_a_signal_that_torchrun_sends_is_no_reason(store, told, capsys):
    """It sends one to the others where one has ended, with or without a word."""
    if told:
        distributed.say_once("error: the reason")
        capsys.readouterr()
    distributed.say_stopped("stopped by SIGTERM", saved=False)
    assert capsys.readouterr().err.startswith("stopped by SIGTERM; where nobody") != told
    distributed.say_stopped("stopped by SIGTERM; holds epoch 2", saved=True)
    assert not capsys.readouterr().err, "the first rank says this"


def test_only_losses_count_as_such():
    assert distributed.is_loss(RuntimeError("[pair.cc:545] Connection closed by peer [127.0.0.1]:33003"))
    assert distributed.is_loss(dist.DistNetworkError("failed"))
    assert not distributed.is_loss(RuntimeError("ProcessGroupGloo::allgather: invalid tensor size at index 0"))


def test_devices_of_ranks(monkeypatch):
    monkeypatch.setattr(distributed, "_job", distributed._Job(Ranks(3, 4), Ranks(1, 2)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    assert device_of_rank("cuda") == "cuda:1"
    assert device_of_rank("cpu") == "cpu"
    for name in ("mps", "cuda:0"):
        with pytest.raises(UserError, match=f"--device {name}: expected auto, cuda or cpu"):
            device_of_rank(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="one process for each of the 1 GPUs of this machine, found 2"):
        device_of_rank("cuda")


def test_a_process_is_told_its_ranks(monkeypatch):
    monkeypatch.setattr(distributed, "_job", distributed._Job(Ranks(3, 4), Ranks(1, 2)))
    assert pick_compute(device="cpu").ranks == Ranks(3, 4)


def test_other_ranks_write_nothing(tmp_path):
    run = RunFolder(tmp_path, read_only=True)
    run.log("a line")
    run.append_row({"epoch": 0})
    run.keep_rows(lambda row: True)
    run.write_json("timing.json", {})
    assert run.note_environment() == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("auto", 4, 4), ("cuda", 2, 2), ("auto", 1, None), ("auto", 0, None), ("cpu", 4, None)],
)
def test_parallel_asks_for_a_process_per_gpu(device, gpus, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if expected is None:
        start_several(device)
        return
    with pytest.raises(RelaunchRequest) as raised:
        start_several(device)
    assert raised.value.count == expected
    start_several(SimpleNamespace(parallel=False, device=device))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    start_several(device)  # torchrun has started us already


def test_several_processes_end_with_one_line(tmp_path):
    words = [ROOT / "main_darts_found_flira.py", "nowhere", "--baseline", "sum", "--device", "cpu"]
    job = processes.start_ranks(2, words, tmp_path, tmp_path / "log.txt")
    assert [rank.wait() for rank in job] == [2, 2]
    lines = [line for rank in job for line in rank.output().splitlines() if line.startswith("error:")]
    assert lines == ["error: nowhere: no such data folder: expected the folder of the data set, found nothing"]


def test_several_processes_end_with_the_code_of_the_first_that_fails(capfd, monkeypatch):
    """Launched for real, of a script that needs no torch: both know their places, the second fails."""
    code = "import os, sys; rank = int(os.environ['RANK']); print('rank', rank, sys.argv[1]); sys.exit(5 * rank)"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("utils.launch.command_line", lambda script, *argv: [sys.executable, "-c", code, script, *argv])
    assert launch("main_darts_found_flira.py", ["--parallel"], 2) == 5
    assert sorted(capfd.readouterr().out.split("\n"))[-2:] == [f"rank {n} main_darts_found_flira.py" for n in (0, 1)]
