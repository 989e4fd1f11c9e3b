"""Locks of folders: alone, waiting or refusing, and gone with their process though workers it forked live on.

Claims: of one at a time, free at once when they are released, and held by a command that was given them.
"""

import os
import signal
import subprocess
import time

import pytest

from utils.errors import UserError
from utils.lock import claim, is_locked, lock_alone, locked, opened, release


def test_the_second_is_refused_or_waits(tmp_path):
    with locked(tmp_path, None, "a run"):
        assert is_locked(tmp_path)
        with (
            pytest.raises(UserError, match="expected a folder that nobody writes to, found a run at work"),
            locked(tmp_path, None, "a run"),
        ):
            pass
    assert not is_locked(tmp_path)
    with locked(tmp_path, None, "a run"):
        pass


def test_a_forked_worker_does_not_hold_on(tmp_path):
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        with locked(tmp_path, None, "a run"):
            worker = os.fork()
            if worker == 0:
                time.sleep(60)
                os._exit(0)
            os.write(writing, str(worker).encode())
            time.sleep(60)
            os._exit(0)
    worker = int(os.read(reading, 20))
    assert is_locked(tmp_path)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        os.kill(worker, 0)  # it lives on
        assert not is_locked(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_claim_is_of_one_until_it_is_released(tmp_path):
    first = claim(tmp_path / "a.lock")
    assert claim(tmp_path / "a.lock") is None
    second = claim(tmp_path / "b.lock")
    left_behind = subprocess.Popen(["sleep", "60"], pass_fds=(first.fileno(), second.fileno()))
    try:
        release(first)
        release(claim(tmp_path / "a.lock"))
        second.close()  # as one that is killed
        assert claim(tmp_path / "b.lock") is None
    finally:
        left_behind.kill()
        left_behind.wait()
    release(claim(tmp_path / "b.lock"))


def test_what_is_written_in_a_lock_file_stays(tmp_path):
    (tmp_path / "a.lock").write_text("5 abc")
    with opened(tmp_path / "a.lock") as file:
        assert lock_alone(file)
    assert (tmp_path / "a.lock").read_text() == "5 abc"


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="expected room and the right to write"):
        claim(tmp_path / "nowhere/a.lock")
