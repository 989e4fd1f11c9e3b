"""Genotypes: round trips, content id, every wrong field named, text form without evaluation."""

import copy
import json

import pytest

from models.search.architecture import read_architecture
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import FusionReader, parse_text
from models.search.fusion_cells.space import fusion_space, random_genotype
from utils.errors import UserError

INPUTS = ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2")
LEVELS = ("P3", "P4")
TEXT = (
    "Genotype(edges=[('skip', 0), ('skip', 3), ('skip', 1), ('skip', 2)], steps=["
    "StepGenotype(inner_edges=[('skip', 0), ('skip', 1)], inner_steps=['ConcatConv'], inner_concat=[0, 1, 2]), "
    "StepGenotype(inner_edges=[('skip', 1), ('skip', 0)], inner_steps=['ECAAttn'], inner_concat=[0, 1, 2])], "
    "concat=[4, 5])"
)


def genotype(seed: int = 0) -> Genotype:
    return random_genotype(fusion_space(INPUTS, LEVELS, 8), seed)


def read_file(path) -> Genotype:
    return read_architecture(path, {"fusion": FusionReader(INPUTS, LEVELS, 8)}).parts["fusion"]


def read(data) -> Genotype:
    return FusionReader(INPUTS, LEVELS, 8).from_json(data, "g.json")


def test_json_round_trip(tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(genotype().to_json()))
    assert read_file(path) == genotype()


def test_text_form_one_for_all_levels_or_one_each(tmp_path):
    path = tmp_path / "genotype.txt"
    path.write_text(TEXT + "\n")
    one = read_file(path)
    assert one.cells[0] == one.cells[1]
    assert one.cells[0].edges == (("skip", 0), ("skip", 3), ("skip", 1), ("skip", 2))
    assert parse_text(f"[{TEXT}, {TEXT}]", "t", INPUTS, LEVELS, 8) == one
    with pytest.raises(UserError, match="expected 2 entries"):
        parse_text(f"[{TEXT}] ", "t", INPUTS, LEVELS, 8)


def test_id_is_of_the_cells_alone():
    a, b = genotype(0), genotype(1)
    assert a.id != b.id
    other = Genotype(("x", "y", "z", "w"), ("P4", "P5"), 16, a.cells, {"seed": 7})
    assert other.id == a.id
    assert len(a.id) == 12


def change(path: list, value):
    data = copy.deepcopy(genotype().to_json())
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


WRONG = [
    (["format"], 2, "format"),
    (["space"], "fusion_v9", "space"),
    (["C"], 16, "field C"),
    (["inputs"], ["a"], "inputs"),
    (["levels"], ["P3"], "levels"),
    (["meta"], [], "meta"),
    (["cells"], KeyError, "cells"),
    (["cells"], "x", "cells"),
    (["cells"], [], "cells"),
    (["cells", 0], 3, r"cells\[0\]"),
    (["cells", 0, "edges"], KeyError, "edges"),
    (["cells", 1, "edges", 0], ["jump", 0], r"cells\[1\].edges\[0\].*skip.*jump"),
    (["cells", 1, "edges", 0], ["none", 0], r"edges\[0\]"),
    (["cells", 1, "edges", 2], ["skip", 5], r"edges\[2\].*0 to 4"),
    (["cells", 1, "edges", 2], ["skip", -1], r"edges\[2\]"),
    (["cells", 1, "edges", 2], ["skip", True], r"edges\[2\]"),
    (["cells", 1, "edges", 2], ["skip"], r"edges\[2\]"),
    (["cells", 1, "edges"], [["skip", 0]], "expected 4 entries"),
    (["cells", 0, "steps"], [], "steps"),
    (["cells", 0, "concat"], [9], r"concat\[0\]"),
    (["cells", 0, "concat"], [], "concat"),
    (["cells", 0, "steps", 1, "inner_steps"], ["Product"], r"steps\[1\].inner_steps\[0\].*ECAAttn.*Product"),
    (["cells", 0, "steps", 1, "inner_steps"], [["Sum"]], r"inner_steps\[0\]"),
    (["cells", 0, "steps", 1, "inner_steps"], [], "inner_steps"),
    (["cells", 0, "steps", 1, "inner_concat"], [3], r"inner_concat\[0\]"),
    (["cells", 0, "steps", 1, "inner_edges"], None, "inner_edges"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_wrong_field_is_named(path, value, message):
    with pytest.raises(UserError, match=message) as error:
        read(change(path, value))
    assert "g.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "nonsense",
        "Genotype(edges=__import__('os').system('touch hacked'))",
        "Genotype(**{})",
        "Genotype([1])",
        "print(1)",
        "[" * 5000,
        "{" * 5000,
        '{"format": 1e999}',
    ],
)
def test_bad_files_are_one_clear_error_and_nothing_runs(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "g"
    path.write_text(text)
    with pytest.raises(UserError, match="g: "):
        read_file(path)
    assert not (tmp_path / "hacked").exists()
    with pytest.raises(UserError, match="missing"):
        read_file(tmp_path / "missing")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_inputs": 4, "steps": 3}, "steps: expected at most 2"),
        ({"num_inputs": 0}, "num_inputs"),
        ({"num_inputs": 4, "multiplier": 7}, "multiplier: expected at most 6"),
        ({"num_inputs": 4, "node_multiplier": 4}, "node_multiplier: expected at most 3"),
    ],
)
def test_impossible_spaces_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        CellSpace(channels=8, **sizes)
