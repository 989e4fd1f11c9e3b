"""Claims: of one at a time, free at once when they are released, and held by a command that was given them."""

import subprocess

import pytest

from utils.errors import UserError
from utils.file_locks import claim, lock_alone, opened, release


def test_a_claim_is_of_one_until_it_is_released(tmp_path):
    first = claim(tmp_path / "a.lock")
    assert claim(tmp_path / "a.lock") is None
    other = claim(tmp_path / "b.lock")
    left_behind = subprocess.Popen(["sleep", "60"], pass_fds=(first.fileno(), other.fileno()))
    try:
        release(first)
        release(claim(tmp_path / "a.lock"))
        other.close()  # as one that is killed
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
