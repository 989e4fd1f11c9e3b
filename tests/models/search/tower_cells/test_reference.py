"""Our towers against numbers of the public FAD modules, in float64, to 1e-9."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from models.search.tower_cells.found import FoundTower
from models.search.tower_cells.joined import JoinedEdges
from models.search.tower_cells.layers import MixedEdge, make_layer
from models.search.tower_cells.operations import CHAINS, SPACES
from models.search.tower_cells.space import TowerSpace
from models.search.tower_cells.supernet import TowerSupernet
from tests.models.search.tower_cells.fad_reference import (
    cell_of,
    check,
    edge_name,
    fill,
    fingerprint,
    found_name,
    made,
    reference,
    set_logits,
    supernet_name,
    texts,
)

GENOTYPES = ("paper_box", "paper_cls", "other_box", "other_cls")


@pytest.fixture(scope="module")
def edge():
    module = MixedEdge(list(CHAINS.values()), 128, 64)
    fill(module, "edge/", edge_name)
    return module


@pytest.fixture(scope="module")
def inputs():
    return made("cell/s0", 1, 128, 4, 5), made("cell/s1", 1, 128, 4, 5)


def test_the_rule_that_makes_weights():
    check(made("rule/check.weight", 2, 3, 1, 1), reference("rule")["check"])


@pytest.mark.parametrize("name", CHAINS)
def test_each_candidate_of_a_shared_edge(edge, name):
    out = run(edge, {CHAINS[name]: 1.0})
    check(fingerprint(out), reference("edge")[f"fingerprint/{name}"])


@pytest.mark.parametrize("name", CHAINS)
def test_each_candidate_of_a_shared_edge_whole(edge, name):
    out = run(edge, {CHAINS[name]: 1.0})
    check(out, reference("edge/output")[name])


def run(edge, weights):
    (out,) = JoinedEdges([edge], [weights])([made("edge/x", 1, 64, 4, 5)])
    return out


def test_the_mixture_of_a_shared_edge(edge):
    alpha = torch.from_numpy(reference("edge")["alpha"])[0]
    torch.testing.assert_close(alpha, made("edge/alpha0", 1, 11)[0], rtol=0, atol=0)
    weights = dict(zip((CHAINS[name] for name in SPACES["fad10"]), alpha.softmax(dim=0), strict=False))
    check(run(edge, weights), reference("edge")["mixed"])


def test_the_supernet_cell(inputs):
    stored = reference("search_cell")
    supernet = TowerSupernet(TowerSpace(), 128, 64)
    fill(supernet, "search_cell/", supernet_name)
    set_logits(supernet, [stored[f"alpha{node}"] for node in range(3)])
    check(supernet(*inputs), stored["output"])


@pytest.mark.parametrize("name", CHAINS)
def test_each_found_operation(name):
    layers = nn.Sequential(*(make_layer(kind, 64) for kind in CHAINS[name]))
    fill(layers, f"op/{name}.layer", str)
    check(fingerprint(layers(made("edge/x", 1, 64, 4, 5))), reference("op/fingerprint")[name])


@pytest.mark.parametrize("name", GENOTYPES)
def test_each_found_cell(name, inputs):
    stored, text = reference("found_cell"), texts()[name]
    tower = FoundTower(cell_of(text), 128, 64)
    fill(tower.cells[0], f"found_cell/{name}/", found_name(text))
    out = tower(*inputs)
    check(fingerprint(out), stored[f"fingerprint/{name}"])
    if name == "paper_box":
        check(out, stored["output/paper_box"])


@pytest.mark.parametrize("pair", ["paper", "other"])
def test_both_found_towers_of_two_cells(pair):
    stored, feature = reference(f"towers/{pair}"), made("towers/P4", 1, 256, 3, 4)
    first = feature
    for place in ("box", "cls"):
        text, prefix = texts()[f"{pair}_{place}"], f"towers/{pair}/{place}."
        tower, reduce = FoundTower(cell_of(text), 256, 96, num_cells=2), nn.Conv2d(3 * 256, 256, 1)
        for number, cell in enumerate(tower.cells):
            fill(cell, f"{prefix}cell{number}.", found_name(text))
        fill(reduce, f"{prefix}reduce.", str)
        first = reduce(tower(first, feature))
        check(first, stored[f"{place}_feature"])


@pytest.mark.parametrize("case", ["random", "none_wins", "all_equal", "tie", "raw_against_softmax"])
@pytest.mark.parametrize("derivation", ["softmax", "raw"])
def test_derivation(case, derivation):
    stored = reference(f"derive/{case}")
    space = TowerSpace(derivation=derivation)
    supernet = TowerSupernet(space, 32, 32)
    set_logits(supernet, [stored[f"alpha{node}"] for node in range(3)])
    expected = json.loads(str(stored[f"lowest_index_{derivation}"]))
    edges = [tuple(edge) for node in expected for edge in sorted(node, key=lambda edge: edge[1])]
    assert space.derive({"box": supernet, "cls": supernet}).cells[0].edges == tuple(edges)


def test_public_texts_of_derivation_without_ties():
    """Where the public code needs no rule for ties, its softmaxed derivation is ours."""
    for case in ("random", "none_wins", "raw_against_softmax"):
        stored = reference(f"derive/{case}")
        supernet = TowerSupernet(TowerSpace(), 32, 32)
        set_logits(supernet, [np.asarray(stored[f"alpha{node}"]) for node in range(3)])
        assert TowerSpace().derive({"box": supernet, "cls": supernet}).cells[1] == cell_of(str(stored["of_softmax"]))
