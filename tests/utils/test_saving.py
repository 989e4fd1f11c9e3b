"""Saving: the same bytes for the same content, nothing that is not finite, no earlier file lost."""

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from utils import files
from utils.checkpoint import load, save, snapshot
from utils.errors import UserError
from utils.files import append_line
from utils.run_folder import write_json

STATE = {"model": {"w": torch.randn(40_000)}, "names": ["a", "a"], "pair": (1, 2.5), "none": None, 7: True}


def folder(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


def test_bytes_follow_from_the_content_alone(tmp_path):
    """Also where strings and lists share an object in memory, or come from a file."""
    save(tmp_path / "a.pt", STATE)
    save(tmp_path / "b.pt", load(tmp_path / "a.pt"))
    shared = ["".join(("a",))] * 2
    save(tmp_path / "c.pt", STATE | {"names": shared})
    assert len(set(folder(tmp_path).values())) == 1
    assert load(tmp_path / "a.pt")["pair"] == (1, 2.5)


def test_the_earlier_file_is_kept_where_asked(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "last.previous.pt"
    for epoch in range(3):
        save(last, {"epoch": epoch}, keep=previous)
    assert (load(last)["epoch"], load(previous)["epoch"]) == (2, 1)
    assert len(folder(tmp_path)) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path, value):
    save(tmp_path / "a.pt", STATE)
    before, bad = folder(tmp_path), torch.ones(5)
    bad[3] = value
    with pytest.raises(UserError, match=r"a.pt: resume\.weights\[1\]\.exp_avg: expected finite numbers"):
        save(tmp_path / "a.pt", {"resume": {"weights": [0, {"exp_avg": bad}]}})
    assert folder(tmp_path) == before
    save(tmp_path / "large.pt", {"w": torch.full((10,), 3e38), "none": torch.empty(0)})  # though its sum overflows


@contextmanager
def largest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_a_full_disk_is_told_and_loses_nothing(tmp_path, size):
    for state in (STATE, STATE | {"more": 1}):
        save(tmp_path / "a.pt", state, keep=tmp_path / "b.pt")
    before = folder(tmp_path)
    with largest_file(size), pytest.raises(UserError, match=r"a.pt: .*found: File too large; what was there"):
        save(tmp_path / "a.pt", STATE, keep=tmp_path / "b.pt")
    assert folder(tmp_path) == before


def test_a_snapshot_does_not_change_any_more():
    tensor, numbers = torch.ones(3, 4).t().requires_grad_(), [1]
    copy = snapshot({"w": tensor, "n": numbers})
    tensor.data.zero_()
    numbers.append(2)
    assert copy["w"].sum() == 12
    assert copy["w"].stride() == tensor.stride()
    assert not copy["w"].requires_grad
    assert copy["n"] == [1]


def test_json_and_lines_too(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    append_line(tmp_path / "b.jsonl", "{}")
    with largest_file(1), pytest.raises(UserError, match="a.json"):
        write_json(tmp_path / "a.json", {"a": 2})
    with largest_file(1), pytest.raises(UserError, match="b.jsonl"):
        append_line(tmp_path / "b.jsonl", "{}")
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n'
    assert sorted(folder(tmp_path)) == ["a.json", "b.jsonl"]


def test_what_reads_back_otherwise_is_not_taken(tmp_path, monkeypatch):
    save(tmp_path / "a.pt", STATE)
    before = folder(tmp_path)

    def spoil(number):
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        content = bytearray(path.read_bytes())
        content[70_000] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(files.os, "fsync", spoil)
    with pytest.raises(UserError, match="a.pt: expected to read back what was written"):
        save(tmp_path / "a.pt", STATE)
    assert folder(tmp_path) == before


def test_a_disk_that_fails_later_is_told(tmp_path, monkeypatch):
    def fail(number):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(UserError, match="a.pt: .*Input/output error"):
        save(tmp_path / "a.pt", STATE)
    assert folder(tmp_path) == {}
