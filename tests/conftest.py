"""Shared by all tests: one thread, a tiny data set, and small pretrained streams made by the real command."""

import functools
import gc
import os
from pathlib import Path

import pytest

from tests import processes
from utils import run_folder

# The controller of `-n 2` runs no test: what imports torch is imported where it is needed.
# What `-n 2` gives to one process, the longest first: tests that share what is made once, or forked processes. Any
# other file is a group of its own.
FORKING = ("resume", "ranks", "mains", "pretraining", "bad_input", "box_fusion", "distributed", "speed")
GROUPS = (
    tuple(f"test_{name}.py" for name in FORKING),
    ("test_strategies.py",),
    ("test_classification.py",),
    ("tests/report/",),
)


def pytest_configure():
    """Let git be asked for the commit once, not by every run."""
    run_folder.commit = functools.cache(run_folder.commit)


def group_of(file: str) -> int:
    """Return the number of a file's group, `len(GROUPS)` where it is in none."""
    found = [number for number, parts in enumerate(GROUPS) if any(part in file for part in parts)]
    return found[0] if found else len(GROUPS)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: group_of(item.nodeid.partition("::")[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            number = group_of(file)
            return file if number == len(GROUPS) else f"group {number}"

    config.option.loadscopereorder = False  # the order is that of the tests
    return ByGroup(config, log)


def pytest_collection_finish():
    """Let the garbage collector pass over what the imports have made, and come seldom: a sixth of the time."""
    gc.freeze()
    gc.set_threshold(30_000, 10, 10)


def pytest_unconfigure():
    gc.unfreeze()  # extensions complain of what nobody has collected at the end


def pytest_sessionfinish():
    processes.close()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors: more threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def gpus_as_before():
    """A command on the CPU hides the GPUs from its process."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    yield
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if before is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = before


@pytest.fixture(scope="session")
def tiny_flir(tmp_path_factory) -> Path:
    """A readable FLIR-Aligned folder (layout 2) of 12 training and 4 test pairs."""
    from tests.tiny_data import make_tiny_flir

    return make_tiny_flir(tmp_path_factory.mktemp("flir"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """What stands for rendered scenes: three parts, by day and by night."""
    from tests.tiny_data import make_tiny_flir

    folder = tmp_path_factory.mktemp("scenes") / "flir"
    return make_tiny_flir(folder, layout="1 in three", scenes=("day", "night"), info={"hash": "abc123"})


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    from tests.tiny_data import CONFIG

    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory, tiny_flir, tiny_config) -> Path:
    """A working folder in which `main_pretrain_flira.py` has run: checkpoints/flira is filled."""
    from main_pretrain_flira import main as pretrain

    folder, before = tmp_path_factory.mktemp("work"), Path.cwd()
    os.chdir(folder)
    try:
        assert pretrain([str(tiny_flir), "--config", str(tiny_config)]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def in_work(pretrained, monkeypatch) -> Path:
    """Stand in the working folder."""
    monkeypatch.chdir(pretrained)
    return pretrained


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not drawn, which takes most of a report's time: for tests of everything else."""
    from matplotlib.figure import Figure

    def save(figure, place, format: str = "png", **options):
        if format == "svg":
            place.write('<svg viewBox="0 0 1 1"></svg>')
        elif hasattr(place, "write"):
            place.write(b"not drawn")
        else:
            Path(place).write_bytes(b"not drawn")

    monkeypatch.setattr(Figure, "savefig", save)
