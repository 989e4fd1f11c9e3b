"""Genotypes of towers: both forms, equal networks have one id, every wrong field is named in one line."""

import copy
import json
import random

import pytest
from torchvision.io import decode_image

from models.search.architecture import Architecture, read_architecture
from models.search.fusion_cells.genotype_file import AnyFusionReader, FusionReader
from models.search.parts import PARTS, draw_architecture, read_any
from models.search.tower_cells.genotype import to_text
from models.search.tower_cells.genotype_file import TowerReader
from models.search.tower_cells.operations import SPACES
from models.search.tower_cells.space import TowerSpace, random_genotype
from tests.models.search.fusion_cells.test_genotype import TEXT
from tests.models.search.fusion_cells.test_genotype import genotype as fusion_genotype
from tests.models.search.tower_cells.fad_reference import cell_of, folder, texts
from tests.models.search.tower_cells.published import FOLDER, OTHER, PAPER
from utils.errors import UserError

LINES = (FOLDER / "fad_paper.log").read_text()
GOOD = random_genotype(TowerSpace(), 0).to_json()


@pytest.mark.parametrize("pair", ["paper", "other"])
def test_both_forms_of_a_published_pair_are_one_genotype(pair):
    form = read_any(FOLDER / f"fad_{pair}.json")
    assert form == read_any(FOLDER / f"fad_{pair}.log")
    assert to_text(form.parts["head"]) == (FOLDER / f"fad_{pair}.log").read_text()
    stored = json.loads((FOLDER / f"fad_{pair}.json").read_text())
    assert form.parts["head"].to_json() == stored
    assert form.id == stored["id"]


def test_published_pairs_are_those_of_the_reference():
    stored = json.loads((folder() / "fad_genotypes.json").read_text())
    for pair, cells in (("paper", PAPER), ("other", OTHER)):
        assert TowerReader().from_json(stored[pair], pair).cells == cells
        assert tuple(cell_of(texts()[f"{pair}_{place}"]) for place in ("box", "cls")) == cells


def test_the_order_of_a_nodes_edges_makes_no_difference(tmp_path):
    data = copy.deepcopy(GOOD)
    for cell in data["cells"]:
        cell["edges"] = [edge for n in range(0, 6, 2) for edge in cell["edges"][n : n + 2][::-1]]
    assert TowerReader().from_json(data, "g").id == GOOD["id"]
    path = tmp_path / "genotype.log"
    path.write_text(
        LINES.replace(
            "[('sinSep_conv_3x3_x3', 0), ('std_conv_3x3_x3', 1)]", "[('std_conv_3x3_x3', 1), ('sinSep_conv_3x3_x3', 0)]"
        )
    )
    assert path.read_text() != LINES
    assert read_any(path).parts["head"].cells == PAPER


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("places", [("box", "cls"), ("box",), ("cls",)])
def test_round_trips_of_json_and_text(name, places):
    space = TowerSpace(places=places, channels=48, name=name)
    names = set()
    for seed in range(20):
        genotype = random_genotype(space, seed)
        assert space.from_json(json.loads(json.dumps(genotype.to_json())), "g") == genotype
        assert TowerReader().from_json(genotype.to_json(), "g").cells == genotype.cells
        assert space.from_text(to_text(genotype), "g").cells == genotype.cells
        names |= {operation for cell in genotype.cells for operation, _ in cell.edges}
    assert names == set(SPACES[name])


def change(place: list, value):
    data = copy.deepcopy(GOOD)
    target = data
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return data


WRONG = [
    ([], "expected a genotype, an object, found"),
    (change(["format"], 2), "field format: expected 1, found 2"),
    (change(["space"], "fad11"), "field space: expected fad10 or fad12, found 'fad11'"),
    (change(["inputs"], ["first"]), "field inputs"),
    (change(["levels"], ["box", "mask"]), "field levels: expected ['box', 'cls'] or ['box'] or ['cls'], found"),
    (change(["levels"], [["box"]]), "field levels"),
    (change(["C"], 0), "field C: expected a whole number from 1, found 0"),
    (change(["C"], True), "field C"),
    (change(["meta"], []), "field meta"),
    (change(["cells"], GOOD["cells"][:1]), "field cells: expected 2 entries (one cell per tower), found 1"),
    (change(["cells"], "x"), "field cells: expected a list"),
    (change(["cells", 1], 3), "field cells[1]: expected an object with the field edges"),
    (change(["cells", 1, "edges"], GOOD["cells"][1]["edges"][:5]), "cells[1].edges: expected 6 entries"),
    (
        change(["cells", 1, "edges", 1], ["std_conv_3x3", 2]),
        "cells[1].edges[1]: expected an index from 0 to 1, found 2",
    ),
    (
        change(["cells", 0, "edges", 4], ["std_conv_5x5", 1]),
        "cells[0].edges[4]: expected an operation of std_conv_3x3,",
    ),
    (change(["cells", 0, "edges", 4], ["none", 1]), "cells[0].edges[4]: expected an operation of"),
    (change(["cells", 0, "edges", 4], [["std_conv_3x3"], 1]), "cells[0].edges[4]: expected an operation of"),
    (change(["cells", 0, "edges", 0], ["std_conv_3x3", True]), "cells[0].edges[0]: expected an index"),
    (change(["cells", 0, "edges", 4], "std_conv_3x3"), "cells[0].edges[4]: expected [operation, index]"),
    (change(["cells", 0, "edges"], [["std_conv_3x3", 1]] * 6), "edges: node 1: expected two different states"),
    (change(["cells", 0, "edges", 0], ["std_conv_3x3+dil_conv_3x3_r3", 0]), "cells[0].edges[0]: expected an operation"),
    (change(["cells", 0, "concat"], [2, 3]), "cells[0].concat: expected [2, 3, 4], found [2, 3]"),
    (change(["cells", 0, "steps"], [{}]), "cells[0].steps"),
]


@pytest.mark.parametrize(("data", "message"), WRONG)
def test_wrong_json_is_one_line_that_names_the_field(data, message):
    with pytest.raises(UserError) as error:
        TowerReader().from_json(data, "g.json")
    assert str(error.value).startswith("g.json: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


FIRST, SECOND = LINES.splitlines()
WRONG_TEXT = [
    (FIRST, "expected a line for each tower, box, cls, found 1 lines"),
    (LINES + FIRST, "found 3 lines"),
    (LINES.replace("std_conv_3x3_x2'", "std_conv_5x5'"), "line 1: normal.edges[5]: expected an operation of"),
    (LINES.replace("('std_conv_3x3_x3', 0)", "('std_conv_3x3_x3', 2)"), "line 2: normal.edges[0]: expected an index"),
    (FIRST + "\n" + SECOND.replace("], [", ", "), "line 2: normal: expected 3 entries (one per node), found 1"),
    (FIRST + "\n" + SECOND.replace("('sinSep_conv_3x3', 2)", ""), "line 2: normal: expected 2 entries (two edges per"),
    (LINES.replace("range(2, 5)", "range(2, 4)"), "line 1: field normal_concat: expected [2, 3, 4], found [2, 3]"),
    (LINES.replace("range(2, 5)", "range(0, 10**12)"), "line 1: expected genotype JSON or the text form"),
    (LINES.replace("range(2, 5)", "range(0, 1000000000000)"), "line 1: field normal_concat: expected [2, 3, 4]"),
    (LINES.replace("range(2, 5)", "open('hacked', 'w')"), "line 1: expected genotype JSON or the text form"),
    (
        LINES.replace(", normal_concat=range(2, 5)", ""),
        "line 1: field normal_concat: expected [2, 3, 4], found nothing",
    ),
    (LINES.replace("normal=", "reduce="), "line 1: expected an object with the field normal"),
    ("nonsense\n1", "line 1: expected genotype JSON or the text form"),
    ("1\n2", "line 1: expected an object with the field normal, found 1"),
    ("", "expected a line for each tower"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_TEXT)
def test_wrong_text_is_one_line_that_names_the_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.log").write_text(text)
    with pytest.raises(UserError) as error:
        read_architecture("g.log", {"head": TowerReader()})
    assert str(error.value).startswith("g.log: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "hacked").exists()


def test_a_text_is_of_the_part_whose_field_it_has(tmp_path):
    inputs, levels = fusion_genotype().inputs, fusion_genotype().levels
    readers = {"fusion": FusionReader(inputs, levels, 8), "head": TowerReader()}
    for text, part in ((TEXT, "fusion"), (LINES, "head")):
        (tmp_path / "g").write_text(text)
        assert list(read_architecture(tmp_path / "g", readers, complete=False).parts) == [part]
        with pytest.raises(UserError, match=f"expected genotypes of fusion, head, found those of {part}$"):
            read_architecture(tmp_path / "g", readers)


def test_a_fusion_and_towers_lie_in_one_file(tmp_path):
    both = Architecture({"fusion": fusion_genotype(), "head": random_genotype(TowerSpace(), 3)})
    (tmp_path / "g.json").write_text(json.dumps(both.to_json()))
    assert read_any(tmp_path / "g.json") == both
    assert read_architecture(tmp_path / "g.json", {"fusion": AnyFusionReader(), "head": TowerReader()}) == both
    pictures = draw_architecture(both, tmp_path / "g.png")
    assert [path.name for path in pictures] == ["g.png", "g_head.png"]


@pytest.mark.parametrize("places", [("box", "cls"), ("box",), ("cls",)])
def test_towers_are_drawn(tmp_path, places):
    space, rng = TowerSpace(places=places, name="fad12"), random.Random(1)
    first = space.sample(rng)
    images = []
    for genotype in (first, first, space.mutate(first, rng)):
        path = PARTS["head"].draw(genotype, tmp_path / "g.png")
        images.append(decode_image(str(path)))
    height, width = images[0].shape[1:]
    assert 300 < height < 1000
    assert 500 * len(places) < width < 900 * len(places)
    assert images[0].equal(images[1])
    assert not images[0].equal(images[2])
