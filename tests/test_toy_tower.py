"""A searchable tower and the fusion are searched together, derived, drawn, saved, loaded; lost logits are refused."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from main_darts_searchable_flira import main as search
from models.search.architecture import Architecture, architecture_from_json, read_architecture
from models.search.fusion_cells.genotype_file import AnyFusionReader
from models.search.parts import PARTS, Part, draw_architecture, read_any
from models.search.space import JointSpace
from tasks.detection import build
from tasks.detection.task import Detection
from tests.run_commands import named, run
from tests.toy_tower import ToySpace, ToyTower, ToyTowers, draw
from utils.errors import UserError
from utils.run_folder import read_json

READERS = {"fusion": AnyFusionReader(), "head": ToySpace()}


def with_module(bracket: str, module: type, build_detector):
    """Return a `build_supernet` that puts a module into a bracket of the detector."""

    def build_supernet(*args, **kwargs):
        model = build_detector(*args, **kwargs)
        setattr(model, bracket, module(model.streams.channels))
        return model

    return build_supernet


@pytest.fixture
def towers(monkeypatch):
    monkeypatch.setitem(PARTS, "head", Part(ToySpace(), draw, lambda genotype: []))
    monkeypatch.setattr(build, "build_supernet", with_module("towers", ToyTowers, build.build_supernet))


def test_one_part_is_searched_beside_a_fusion_of_a_file(towers, monkeypatch, in_work, tiny_flir, tiny_config, capsys):
    """The fusion of the file, or one made by hand; the head's own parameters are frozen."""
    monkeypatch.setattr(Detection, "searchable_parts", ("fusion", "head"))
    monkeypatch.setattr(build, "readers", lambda *args, of=build.readers: of(*args) | {"head": ToySpace()})
    argv = (tiny_flir, "--config", tiny_config, "--epochs", 1, "--steps", 1, "--multiplier", 1)
    both = named(run(search, capsys, *argv), "search_exp_dir")
    fusion = read_architecture(both / "genotype.json", READERS).parts["fusion"]
    for source in (("--search_exp_dir", both), ("--genotype", both / "genotype.json"), ()):
        options = ("--search_parts", "head", "--freeze_parts", "fusion", *source)
        folder = named(run(search, capsys, *argv, *options), "search_exp_dir")
        assert list(read_json(folder / "genotype.json")["parts"]) == ["head"]
        state = torch.load(folder / "best.pt", weights_only=True)["model"]
        assert not [name for name in state if name.startswith("fusions.") and "alpha_" in name]
        assert any(name.startswith("fusions.") for name in state) == bool(source)
    assert len(fusion.cells) == 3


PARTS_FAULTS = {
    "--search_parts neck": "--search_parts: expected parts of fusion, found neck",
    "--freeze_parts fusion": "--freeze_parts: expected parts that are not searched, head, found fusion",
    "--genotype g.json": "--genotype: no effect without --search_parts: every part is searched",
    "--search_parts a,,b": "expected different names separated by commas, found 'a,,b'",
}


@pytest.mark.parametrize("options", PARTS_FAULTS)
def test_parts_that_cannot_be_searched_or_frozen_are_refused(in_work, tiny_flir, tiny_config, capsys, options):
    assert search([str(tiny_flir), "--config", str(tiny_config), *options.split()]) == 2
    assert PARTS_FAULTS[options] in capsys.readouterr().err


def test_a_frozen_head_does_not_learn(in_work, tiny_flir, tiny_config, capsys):
    options = ("--config", tiny_config, "--epochs", 1, "--freeze_parts", "head")
    folder = named(run(search, capsys, tiny_flir, *options), "search_exp_dir")
    state = torch.load(folder / "best.pt", weights_only=True)["model"]
    start = torch.load("checkpoints/flira/Head_Net_Pretrained_Best.pth.tar", weights_only=True)
    assert all(torch.equal(state[f"head.{name}"], value) for name, value in start.items())


STRATEGIES = {
    "darts": ("--epochs", 2, "--topk", 2),
    "darts2": ("--epochs", 1, "--steps", 1, "--multiplier", 1, "--lambda_cost", 0.1, "--select", "perturb"),
    "random": ("--epochs", 2),
    "evolution": ("--epochs", 1, "--rounds", 6, "--population", 3, "--tournament", 2),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fusion_and_towers_are_searched_together(towers, in_work, tiny_flir, tiny_config, capsys, strategy):
    options = ("--strategy", strategy, *STRATEGIES[strategy])
    folder = named(run(search, capsys, tiny_flir, "--config", tiny_config, *options), "search_exp_dir")
    data = read_json(folder / "genotype.json")
    assert data["format"] == 2
    assert list(data["parts"]) == ["fusion", "head"]
    architecture = read_architecture(folder / "genotype.json", READERS)
    assert architecture == read_any(folder / "genotype.json")
    assert architecture.id == data["id"]
    assert [len(ops) for ops in architecture.parts["head"].towers] == [2, 2]
    assert architecture.meta["args"]["strategy"] == strategy
    row = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert row["head/count_skip"] + row["head/count_conv"] == 4
    assert {"fusion/count_Sum", "parameter_free", "genotype", "argmax"} <= set(row)
    pictures = draw_architecture(architecture, folder / "g.png")
    assert [path.name for path in pictures] == ["g.png", "g_head.png"]
    assert all(path.stat().st_size for path in pictures)
    if strategy.startswith("darts"):
        state = torch.load(folder / "best.pt", weights_only=True)["model"]
        assert (state["towers.box.alpha_edges"] != state["towers.cls.alpha_edges"]).any()
        assert row["head/entropy"] > 0
        places = json.loads((folder / "alphas.jsonl").read_text().splitlines()[0])["levels"]
        assert "head/box" in places
        assert "fusion/P3" in places
    if strategy == "darts2":
        assert set(read_json(folder / "costs.json")["levels"]) >= {"head/cls", "fusion/P3"}


class HiddenTower(nn.Module):
    """A neck that holds a supernet but is none."""

    def __init__(self, channels: int):
        super().__init__()
        self.tower = ToyTower(ToySpace(), channels)

    def forward(self, maps):
        return [self.tower(x) for x in maps]


def test_logits_of_no_supernet_are_refused(monkeypatch, in_work, tiny_flir, tiny_config, capsys):
    monkeypatch.setattr(build, "build_supernet", with_module("neck", HiddenTower, build.build_supernet))
    assert search([str(tiny_flir), "--config", str(tiny_config)]) == 2
    error = capsys.readouterr().err
    assert "neck.tower.alpha_edges: expected architecture parameters of the supernets that searchables()" in error


class OnlyTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.towers = ToyTowers(4)

    def searchables(self):
        return {"head": dict(self.towers.named_children())}


def test_tokens_of_several_parts_follow_one_another():
    places = OnlyTowers().searchables()["head"]
    joint = JointSpace.of({"head": places, "neck": places})
    architecture = joint.derive()
    code = joint.to_code(architecture)
    assert len(code) == len(joint.sizes) == len(joint.kinds) == 8
    assert joint.kinds[0] == "head/operation"
    assert joint.allowed(code[:5]) == (True, True)
    assert joint.from_code(code) == architecture
    first, second = joint.top_k(2)
    assert first == architecture
    assert first != second


GOOD = ToySpace().from_code((0, 1, 1, 0)).to_json()
FAULTS = [
    ([], "expected a genotype, an object, found"),
    ({"format": 3, "parts": {"head": GOOD}}, "field format: expected 2, found 3"),
    ({"parts": {"head": GOOD}}, "field format: expected 2, found None"),
    ({"format": 2, "parts": {}}, "field parts: expected an object of genotypes by part"),
    ({"format": 2, "parts": [GOOD]}, "field parts: expected an object of genotypes by part"),
    ({"format": 2, "parts": {"neck": GOOD}}, "field parts: expected genotypes of fusion, head, found one of 'neck'"),
    ({"format": 2, "parts": {"head": GOOD}}, "field parts: expected genotypes of fusion, head, found those of head"),
    ({"format": 2, "parts": {"fusion": 1, "head": GOOD}}, "parts.fusion: expected a genotype, an object, found 1"),
    ({"format": 2, "parts": {"fusion": GOOD, "head": GOOD}}, "parts.fusion: field inputs"),
]


@pytest.mark.parametrize(("data", "message"), FAULTS)
def test_a_wrong_file_of_parts_is_refused_in_one_line(tmp_path, data, message):
    path = tmp_path / "g.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError) as error:
        read_architecture(path, READERS)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_format_1_is_the_part_that_its_space_belongs_to(tmp_path):
    found = architecture_from_json(GOOD, "g", READERS, complete=False)
    assert found == Architecture({"head": ToySpace().from_code((0, 1, 1, 0))})
    path = Path(tmp_path / "g.json")
    path.write_text(json.dumps(found.to_json()))
    assert read_architecture(path, {"head": ToySpace()}) == found
