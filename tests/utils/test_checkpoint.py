"""Checkpoints: atomic, plain values only, exact fit, sizes read from names."""

import pickle

import pytest
import torch
from torch import nn

from models.detection.heads.efficientdet import DetectionHead
from models.detection.streams import Streams
from tasks.detection.stream_files import head_classes, stream_sizes
from utils.checkpoint import keep_backup, load, load_state, save
from utils.errors import UserError


class Evil:
    def __reduce__(self):
        return (open, ("hacked", "w"))


def test_round_trip_and_backup(tmp_path):
    path = tmp_path / "a.pt"
    keep_backup(path)  # nothing there yet
    save(path, {"model": {"w": torch.arange(3.0)}, "epoch": 1})
    keep_backup(path)
    save(path, {"model": {"w": torch.zeros(3)}, "epoch": 2})
    assert load(path)["epoch"] == 2
    assert torch.equal(load(tmp_path / "a.pt.bak")["model"]["w"], torch.arange(3.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "a.pt.bak"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.pt"
    save(path, {"epoch": 1})
    with pytest.raises(Exception, match="pickle|local object"):
        save(path, {"epoch": lambda: None})
    assert load(path) == {"epoch": 1}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"epochs: 1\n", pickle.dumps(Evil()), pickle.dumps([1, 2])])
def test_bad_files_are_one_line_and_run_nothing(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(UserError, match="bad.pt") as error:
        load(tmp_path / "bad.pt")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "hacked").exists()


def test_cut_files_are_named(tmp_path):
    path = tmp_path / "a.pt"
    save(path, {"w": torch.randn(100)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="a.pt"):
            load(path)
    with pytest.raises(UserError, match="no such"):
        load(tmp_path / "none.pt")


def test_loading_names_the_first_tensor_that_does_not_fit():
    layer = nn.Linear(2, 3)
    good = layer.state_dict()
    load_state(layer, good, "f")
    for state, message in (
        ({"weight": good["weight"]}, "f: bias: expected a tensor"),
        (good | {"weight": torch.zeros(3, 3)}, r"f: weight: expected shape \(3, 2\), found \(3, 3\)"),
        (good | {"weight": "text"}, "found str"),
        (good | {"extra": torch.zeros(1)}, "1 more, the first extra"),
    ):
        with pytest.raises(UserError, match=message):
            load_state(layer, state, "f")


@pytest.mark.parametrize(("repeats", "levels"), [(1, 3), (2, 5), (3, 4)])
def test_sizes_are_read_from_the_names(repeats, levels):
    state = Streams("lcnet_050", 16, repeats, levels).state_dict()
    assert stream_sizes(state, "f") == {"C": 16, "num_input_nodes": 2 * repeats, "fusion_levels": levels}
    assert head_classes(DetectionHead(16, 7, num_levels=levels).state_dict(), "f") == 7
    with pytest.raises(UserError, match="modality rgb"):
        stream_sizes({k: v for k, v in state.items() if k.startswith("thermal")}, "f")
    with pytest.raises(UserError, match="class_net"):
        head_classes({}, "f")
