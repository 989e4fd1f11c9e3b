"""Genotypes drawn at random: seeded, valid, uniform; changed in one place; capped."""

import itertools
import random
from collections import Counter

import pytest

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import input_names
from models.search.fusion_cells.derive import describe_genotype
from models.search.fusion_cells.genotype_file import FusionReader
from models.search.fusion_cells.random_genotypes import draw_genotype, mutated
from models.search.fusion_cells.space import FusionSpace, fusion_space, random_genotype

INPUTS = ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2")
LEVELS = ("P3", "P4")


def test_random_genotypes_are_seeded_valid_and_uniform():
    drawn = [random_genotype(fusion_space(INPUTS, LEVELS, 8), seed) for seed in range(600)]
    assert drawn[3] == random_genotype(fusion_space(INPUTS, LEVELS, 8), 3)
    for g in drawn[:50]:
        assert FusionReader(INPUTS, LEVELS, 8).from_json(g.to_json(), "g") == g
    first_pairs = Counter(tuple(i for _, i in g.cells[0].edges[:2]) for g in drawn)
    assert len(first_pairs) == 6
    assert max(first_pairs.values()) < 140  # expected 100, standard deviation 9
    ops = Counter(op for g in drawn for c in g.cells for s in c.steps for op in s.inner_steps)
    assert len(ops) == 4
    assert max(ops.values()) / min(ops.values()) < 1.25
    assert all(set(g.cells[0].edges[:2]) != set(g.cells[0].edges[2:]) for g in drawn)


@pytest.mark.parametrize("name", ["fusion_v1", "fusion_v2"])
def test_a_mutation_changes_one_place_and_keeps_the_rules(name):
    levels, rng = ("P3", "P4", "P5"), random.Random(1)
    names = input_names(name, INPUTS, len(levels))
    space = CellSpace(len(names), 8, name=name)
    parent = draw_genotype(space, names, levels, rng)
    kinds = set()
    for _ in range(200):
        child = mutated(parent, space, rng)
        data = child.to_json()
        assert FusionReader(INPUTS, levels, 8).from_json(data, "g") == child
        different = [(a, b) for a, b in zip(parent.cells, child.cells, strict=True) if a != b]
        assert len(different) == 1
        ((before, after),) = different
        kinds.add((before.steps != after.steps, [o for o, _ in before.edges] != [o for o, _ in after.edges]))
        assert (before.steps == after.steps) or (before.edges == after.edges)
        assert (Counter(before.edges) - Counter(after.edges)).total() <= 1
        for cell in child.cells:
            pairs = [{s for _, s in cell.edges[2 * i : 2 * i + 2]} for i in range(2)]
            assert all(len(pair) == 2 for pair in pairs)
            assert not pairs[1] <= pairs[0]
        parent = child
    assert len(kinds) >= 2


def test_random_genotypes_of_the_published_space_are_those_of_earlier_versions():
    """The draws of a seed must not change: published numbers name them."""
    genotype = random_genotype(fusion_space(INPUTS, ("P3",), 8), 7)
    rng = random.Random(7)
    pairs = list(itertools.combinations(range(4), 2))
    first = rng.choice(pairs)
    second = rng.choice([p for p in pairs if not set(p) <= set(first)])
    assert [index for _, index in genotype.cells[0].edges] == [*first, *second]


@pytest.mark.parametrize("most", [0, 2, 99])
def test_drawn_genotypes_are_capped_and_keep_all_else(most):
    sizes = {"steps": 3, "multiplier": 3, "name": "fusion_v2", "inputs": tuple("abcdef"), "levels": LEVELS}
    space, capped = FusionSpace(6, 8, **sizes), FusionSpace(6, 8, **sizes, max_parameter_free=most)
    for seed in range(10):
        drawn = random_genotype(space, seed)
        kept, again = (random_genotype(capped, seed) for _ in range(2))
        assert kept == again
        free = [describe_genotype(g, space)["parameter_free"] for g in (drawn, kept)]
        assert free[1] == min(free[0], most)
        assert (kept == drawn) == (free[0] <= most)
        states = [[state for cell in g.cells for _, state in cell.edges] for g in (drawn, kept)]
        assert states[0] == states[1]
