"""What is free: of the machine, of a container of either kind, of a disk."""

import shutil
from pathlib import Path

import pytest

from engine.free_space import free_disk, free_memory


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_machine_and_its_containers(tmp_path):
    proc = write(tmp_path / "proc", meminfo="MemTotal:  9000 kB\nMemAvailable:  8000 kB\n")
    assert free_memory(proc, tmp_path / "none") == 8000 * 1024
    stat = "a 1\ninactive_file 300\n"
    free = write(tmp_path / "free", memory_dot_max="max\n", memory_dot_current="5\n", memory_dot_stat=stat)
    assert free_memory(proc, free) == 8000 * 1024
    two = write(tmp_path / "two", memory_dot_max="900\n", memory_dot_current="500\n", memory_dot_stat=stat)
    assert free_memory(proc, two) == 900 - 500 + 300
    names = {"memory__memory_dot_limit_in_bytes": "700", "memory__memory_dot_usage_in_bytes": "900"}
    one = write(tmp_path / "one", **names, memory__memory_dot_stat="total_inactive_file 50\n")
    assert free_memory(proc, one) == 0


def test_this_machine(tmp_path):
    assert 2**20 < free_memory() < 2**50
    assert 2**20 < free_memory(proc=tmp_path) < 2**50
    assert free_disk(tmp_path / "not" / "there") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
