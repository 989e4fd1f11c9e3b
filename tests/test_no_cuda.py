"""A run on the CPU leaves CUDA alone also where there is a GPU, which may be full, broken or another's; so does MPS."""

import json
import os
from collections.abc import Callable

import pytest
import torch

from engine.compute import pick_compute
from engine.epochs import peak_memory_mb
from engine.nonfinite import Guard
from main_darts_found_flira import main as found
from main_darts_searchable_flira import main as search
from main_pretrain_flira import main as pretrain
from tests.run_commands import named, run
from utils.seed import random_state, set_random_state

# Only looks, or is noted for when CUDA is started.
HARMLESS = ("is_available", "is_initialized", "device_count", "manual_seed_all")
# What every use goes through, and what torch's optimisers and pinning loaders ask wherever they see a GPU.
STARTS = ((torch.cuda, "_lazy_init"), (torch.accelerator, "current_device_index"))


@pytest.fixture
def with_gpu(monkeypatch):
    """Let this be a machine with a GPU that is there unless it is hidden; fail where more is asked of CUDA."""

    def forbidden(name: str) -> Callable:
        def call(*_, **__):
            pytest.fail(f"{name} was called")

        return call

    public = [n for n in torch.cuda.__all__ if n not in HARMLESS and n[0].islower()]
    assert {"init", "synchronize", "current_device", "get_device_name", "get_rng_state_all"} <= set(public)
    for module, name in (*((torch.cuda, n) for n in public), *STARTS):
        if callable(getattr(module, name, None)):
            monkeypatch.setattr(module, name, forbidden(f"{module.__name__}.{name}"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for module in (torch.cuda, torch.accelerator):
        monkeypatch.setattr(module, "is_available", lambda: bool(os.environ["CUDA_VISIBLE_DEVICES"]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(torch.cuda.is_available()))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)


def test_the_fixture_notices(with_gpu):
    for touch in (
        lambda: torch.empty(1, device="cuda"),
        lambda: torch.empty(1).cuda(),
        lambda: torch.zeros(1).to("cuda:0"),
        torch.cuda.get_rng_state,
        torch.random.fork_rng().__enter__,
        torch.cuda.mem_get_info,
    ):
        with pytest.raises(pytest.fail.Exception, match="was called"):
            touch()


def test_runs_on_the_cpu(with_gpu, tiny_flir, tiny_config, tmp_path, monkeypatch, capsys):
    """The three commands, each with other options that do something of their own on a GPU."""
    monkeypatch.chdir(tmp_path)
    common = [tiny_flir, "--config", tiny_config, "--device", "cpu"]
    run(pretrain, capsys, *common)
    cached = ["--strategy", "darts2", "--alternate", "step", "--cache_features", "ram"]
    searched = named(run(search, capsys, *common, "--epochs", 1, *cached), "search_exp_dir")
    amp = ["--amp", "--accum", 2, "--clip_grad", 1, "--parallel", "--pin-mem"]
    trained = named(run(found, capsys, *common, "--epochs", 1, "--search_exp_dir", searched, *amp), "eval_exp_dir")
    assert named(run(found, capsys, *common, "--eval_exp_dir", trained, "--workers", 1), "results").exists()
    row = json.loads((trained / "metrics.jsonl").read_text())
    assert row["memory_mb"] > 10  # of the process


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("mps", [True, False])
def test_auto_takes_what_is_there(monkeypatch, gpu, mps):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    asked = []
    monkeypatch.setattr(torch, "empty", lambda size, device: asked.append(device.type))
    compute = pick_compute()
    assert asked == [compute.device.type] == ["cuda" if gpu else "mps" if mps else "cpu"]


@pytest.mark.parametrize("kind", ["cpu", "mps", "cuda"])
def test_only_cuda_steps_are_looked_at_later(monkeypatch, kind):
    monkeypatch.setattr(torch, "zeros", lambda size, device: torch.full(size, 0.0))  # MPS is not here
    assert Guard(torch.device(kind)).synchronous == (kind != "cuda")


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_states_and_memory_are_of_the_device(monkeypatch, with_gpu, kind):
    states = []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.tensor([5], dtype=torch.uint8))
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    state = random_state(torch.device(kind))
    drawn = torch.rand(3)
    set_random_state(state, torch.device(kind))
    assert torch.equal(torch.rand(3), drawn)
    assert states == ([torch.tensor([5])] if kind == "mps" else [])
    assert "cuda" not in state
    assert peak_memory_mb() > 10  # of the process
