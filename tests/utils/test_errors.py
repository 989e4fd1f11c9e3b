"""A lack of memory is the user's to mend: one line that names the options; every other fault stays what it is."""

import mmap

import pytest
import torch

from utils.args import command
from utils.errors import UserError, known_faults_named


def exhaust_the_machine() -> None:
    torch.empty(1 << 59, dtype=torch.uint8)


def exhaust_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore advice")


def exhaust_mappings() -> None:
    mmap.mmap(-1, 1 << 60)


@pytest.mark.parametrize("exhaust", [exhaust_the_machine, exhaust_a_gpu, exhaust_mappings])
def test_a_lack_of_memory_names_options(exhaust, capsys):
    @command
    def main(argv: list[str]) -> None:
        exhaust()

    assert main([]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: out of memory: ")
    assert "\n" not in line
    for option in ("--batchsize", "--accum", "--amp", "--image_size", "--cache_features"):
        assert option in line


@pytest.mark.parametrize("fault", [RuntimeError("shape mismatch"), KeyError("x"), UserError("bad option")])
def test_other_faults_stay(fault):
    with pytest.raises(type(fault)) as raised, known_faults_named():
        raise fault
    assert raised.value is fault


def test_what_cannot_be_repeated_is_refused_where_asked(monkeypatch):
    fault = RuntimeError("op_cuda does not have a deterministic implementation, but you set ... . You can turn off")
    with pytest.raises(RuntimeError, match="op_cuda"), known_faults_named():
        raise fault
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    with pytest.raises(UserError, match=r"^--deterministic: op_cuda .* leave the option out$"), known_faults_named():
        raise fault
