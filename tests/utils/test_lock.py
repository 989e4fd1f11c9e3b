"""Locks: alone, waiting or refusing, and gone with their process though workers it forked live on."""

import os
import signal
import time

import pytest

from utils.errors import UserError
from utils.lock import is_locked, locked


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
