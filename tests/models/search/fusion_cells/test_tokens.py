"""Codes of fusion genotypes: round trips, every allowed code is valid, and as many as there are genotypes."""

import itertools
import math
import random

import pytest
import torch

from models.search.costs import MEASURES
from models.search.fusion_cells.choices import SPACES
from models.search.fusion_cells.space import FusionSpace, fusion_space, random_genotype
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.space import JointSpace
from utils.errors import UserError

TAPS = ("a/1", "a/2", "b/1", "b/2")
LEVELS = ("P3", "P4", "P5")


def space_of(name: str, pair_inputs: bool = False, node_steps: int = 2) -> FusionSpace:
    predecessors, length = ("all", 4) if name == "bmnas" else ("inputs", 0)
    sizes = {"node_steps": node_steps, "node_multiplier": 1, "length": length, "predecessors": predecessors}
    return fusion_space(TAPS, LEVELS, 8, name=name, pair_inputs=pair_inputs, **sizes)


def drawn_code(space: FusionSpace, rng: random.Random) -> tuple[int, ...]:
    code: list[int] = []
    while len(code) < len(space.sizes):
        values = [value for value, may in enumerate(space.allowed(code)) if may]
        code.append(rng.choice(values))
    return tuple(code)


@pytest.mark.parametrize("pair_inputs", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_genotypes_and_codes_are_one_to_one(name, pair_inputs):
    space, rng = space_of(name, pair_inputs), random.Random(1)
    assert len(space.sizes) == len(space.kinds)
    for seed in range(100):
        genotype = random_genotype(space, seed)
        space.validate(genotype)
        code = space.to_code(genotype)
        assert all(0 <= token < size for token, size in zip(code, space.sizes, strict=True))
        assert space.from_code(code) == genotype
        code = drawn_code(space, rng)
        drawn = space.from_code(code)
        space.validate(drawn)
        assert space.to_code(drawn) == code
        assert space.from_json(drawn.to_json(), "g") == drawn
        genotype = space.mutate(genotype, rng)
        space.validate(genotype)
        assert space.from_code(space.to_code(genotype)) == genotype


def num_codes(space: FusionSpace, prefix: tuple[int, ...] = ()) -> int:
    if len(prefix) == len(space.sizes):
        return 1
    allowed = space.allowed(prefix)
    assert len(allowed) == space.sizes[len(prefix)]
    return sum(num_codes(space, (*prefix, value)) for value, may in enumerate(allowed) if may)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("predecessors", ["inputs", "all"])
def test_there_are_as_many_codes_as_genotypes(predecessors, ordered):
    """Two steps of one inner step each; pairs of states are counted by a loop over all of them."""
    sizes = {"node_multiplier": 1, "predecessors": predecessors, "pair_inputs": ordered}
    space = fusion_space(("a/1", "a/2", "b/1"), ("P3",), 8, **sizes)
    pairs = itertools.permutations if ordered else itertools.combinations
    second = range(4 if predecessors == "all" else 3)
    count = 0
    for a, b in itertools.product(pairs(range(3), 2), pairs(second, 2)):
        count += set(a) != set(b) if predecessors == "all" else not set(b) <= set(a)
    assert num_codes(space) == count * (2 * len(space.op_names)) ** 2


def test_edges_with_a_choice_have_tokens():
    space = fusion_space(("a/1", "b/1"), ("P3",), 8, name="fusion_v2", steps=1, multiplier=1, node_multiplier=1)
    assert num_codes(space) == math.comb(2, 2) * 3 * 3 * 2 * len(space.op_names)
    assert space.kinds == ("state", "state", "edge", "edge", "inner state", "inner state", "operation")


def test_a_code_that_is_not_valid_is_refused():
    space = space_of("fusion_v1")
    code = space.to_code(random_genotype(space, 1))
    for wrong, match in (((*code, 0), "tokens"), ((4, *code[1:]), "token 0: expected one of"), (code[:3], "tokens")):
        with pytest.raises(UserError, match=match):
            space.from_code(wrong)
    states = list(code)
    states[1] = states[0]
    with pytest.raises(UserError, match="token 1: expected one of"):
        space.from_code(states)


def test_a_joint_space_of_one_part_is_that_part():
    space = space_of("fusion_v2")
    joint = JointSpace({"fusion": space})
    architecture = joint.sample(random.Random(3))
    assert architecture.parts["fusion"] == space.sample(random.Random(3))
    assert architecture.id == architecture.parts["fusion"].id
    assert joint.describe(architecture) == space.describe(architecture.parts["fusion"])
    mutant = joint.mutate(architecture, random.Random(4)).parts["fusion"]
    assert mutant == space.mutate(architecture.parts["fusion"], random.Random(4))
    assert joint.sizes == space.sizes
    assert joint.from_code(joint.to_code(architecture)) == architecture


def test_the_cost_of_a_genotype_is_what_logits_that_prefer_it_expect():
    space = fusion_space(TAPS, LEVELS[:1], 8, name="fusion_v2", feature_sizes=((6, 5),))
    device = torch.device("cpu")
    table = space.cost_table(MEASURES["macs"], device)
    supernet = SearchableFusion(space)
    cost = space.expected_cost({"P3": supernet}, table, device)
    with torch.no_grad():
        for alpha, names, best in (
            (supernet.alpha_edges, space.edge_ops, "sep_conv_3x3"),
            (supernet.alpha_ops, space.op_names, "GLU"),
        ):
            alpha.fill_(-50)
            alpha[..., names.index(best)] = 50
    genotype = space.derive({"P3": supernet})
    fusions, edges = (table["P3"][kind].values() for kind in ("fusions", "edges"))
    even = space.steps * (sum(fusions) / len(fusions) + 2 * sum(edges) / 3)  # `none` is no edge
    assert float(cost().detach()) * even == pytest.approx(space.cost(genotype, table), rel=1e-4)
