"""A folder that processes share: prepared once, refused to others, cleaned by the last one."""

import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tools.out_folder import shared
from utils.errors import UserError

FORK = multiprocessing.get_context("fork")


def test_the_last_one_to_leave_removes_the_scratch(tmp_path):
    out, cache = tmp_path / "out", tmp_path / "out/cache"
    with shared(out, {"seed": 1}, cache):
        cache.mkdir()
        with shared(out, {"seed": 1}, cache):
            pass
        assert cache.exists()
    assert out.exists()
    assert not cache.exists()


def test_another_stamp_is_refused_while_one_is_at_work_and_moves_the_folder_later(tmp_path):
    out, other = tmp_path / "out", {"seed": 1, "config_hash": "b"}
    with shared(out, {"seed": 1, "config_hash": "a"}, out / "cache"):
        (out / "mine").touch()
        (out / "cache").mkdir()
        with pytest.raises(UserError, match="nobody at work in it with another config_hash, found"):
            shared(out, other, out / "cache").__enter__()
        assert (out / "mine").exists()
        assert (out / "cache").exists()
    with shared(out, other, out / "cache"):
        assert not (out / "mine").exists()
    assert [path.name for path in tmp_path.glob("out-*/mine")] == ["mine"]


def test_processes_that_come_at_once_prepare_it_once(tmp_path):
    """A folder of another stamp is moved aside by one of them, before any is at work."""
    out, barrier = tmp_path / "out", FORK.Barrier(4)
    with shared(out, {"seed": 1}, out / "cache"):
        pass

    def work(number: int) -> None:
        barrier.wait(20)
        with shared(out, {"seed": 2}, out / "cache"):
            (out / str(number)).touch()
            barrier.wait(20)

    for _ in range(5):
        processes = [FORK.Process(target=work, args=(number,), daemon=True) for number in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
        assert [process.exitcode for process in processes] == [0] * 4
        assert {path.name for path in out.iterdir()} == {"stamp.json", *"0123"}
        assert len(list(tmp_path.glob("out-*"))) == 1


def test_a_command_of_a_killed_process_is_still_at_work(tmp_path):
    out, number = tmp_path / "out", tmp_path / "number"

    def work() -> None:
        with shared(out, {"seed": 1}, out / "cache") as lock:
            number.write_text(str(subprocess.Popen(["sleep", "60"], pass_fds=(lock,)).pid))
            os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=work, daemon=True)
    process.start()
    process.join(30)
    try:
        with pytest.raises(UserError, match="another seed"):
            shared(out, {"seed": 2}, out / "cache").__enter__()
        (out / "cache").mkdir()
        with shared(out, {"seed": 1}, out / "cache"):
            pass
        assert (out / "cache").exists()
    finally:
        os.kill(int(Path(number).read_text()), signal.SIGKILL)
