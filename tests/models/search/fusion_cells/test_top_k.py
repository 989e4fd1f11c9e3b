"""The likeliest genotypes against a brute force over all of a small space."""

import itertools
import math

import pytest
import torch

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.derive import derive, describe_genotype, final_weights
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.fusion_cells.top_k import top_k_genotypes

LEVELS = ("P3",)


def log_probability(fusion, cell) -> float:
    weights, space = final_weights(fusion), fusion.space
    total, first = 0.0, 0
    for i, step in enumerate(cell.steps):
        for port, (name, state) in enumerate(cell.edges[2 * i : 2 * i + 2]):
            row = weights.edges[port * (space.ports - 1), first + state]
            total += math.log(row[space.edge_ops.index(name)])
        total += math.log(weights.ops[i, 0, space.op_names.index(step.inner_steps[0])])
        first += space.num_inputs + i
    return total


def all_logs(fusion) -> list[float]:
    """Every genotype of one step, by plain loops."""
    weights, space = final_weights(fusion), fusion.space
    pairs = itertools.combinations(range(space.num_inputs), 2)
    pairs = pairs if space.ports == 1 else itertools.permutations(range(space.num_inputs), 2)
    names = range(1, len(space.edge_ops))
    logs = []
    for (j, k), a, b, o in itertools.product(pairs, names, names, range(len(space.op_names))):
        product = weights.edges[0, j, a] * weights.edges[-1, k, b] * weights.ops[0, 0, o]
        logs.append(math.log(product))
    return sorted(logs, reverse=True)


@pytest.mark.parametrize(("name", "pair"), [("fusion_v1", False), ("fusion_v2", False), ("fusion_v2", True)])
def test_against_brute_force(name, pair):
    torch.manual_seed(3)
    fusion = SearchableFusion(CellSpace(3, 8, steps=1, multiplier=1, name=name, pair_inputs=pair))
    for p in (fusion.alpha_edges, fusion.alpha_ops):
        torch.nn.init.normal_(p)
    found = [g for _, g in top_k_genotypes([fusion], ("a", "b", "c"), LEVELS, 30)]
    logs = [log_probability(fusion, g.cells[0]) for g in found]
    assert logs == pytest.approx(all_logs(fusion)[:30], abs=1e-9)
    assert len({g.id for g in found}) == len(found)


def test_the_first_is_the_derived_one_and_levels_are_combined():
    torch.manual_seed(4)
    fusions = [SearchableFusion(CellSpace(4, 8)) for _ in range(2)]
    for fusion in fusions:
        for p in (fusion.alpha_edges, fusion.alpha_ops):
            torch.nn.init.normal_(p)
    names = ("a", "b", "c", "d"), ("P3", "P4")
    ranked = top_k_genotypes(fusions, *names, 12)
    found = [g for _, g in ranked]
    assert found[0] == derive(fusions, *names)
    totals = [sum(log_probability(f, c) for f, c in zip(fusions, g.cells, strict=True)) for g in found]
    assert totals == sorted(totals, reverse=True)
    assert [log for log, _ in ranked] == pytest.approx(totals)
    assert len({g.id for g in found}) == 12


def test_choices_without_parameters_are_capped_in_all_of_them():
    torch.manual_seed(5)
    fusion = SearchableFusion(CellSpace(4, 8, name="fusion_v2"))
    with torch.no_grad():
        fusion.alpha_ops[..., 0] += 5  # Sum
        fusion.alpha_edges[..., 1] += 5  # skip
    names = ("a", "b", "c", "d"), LEVELS
    free = [describe_genotype(g, fusion.space)["parameter_free"] for _, g in top_k_genotypes([fusion], *names, 6)]
    assert min(free) > 1
    capped = [g for _, g in top_k_genotypes([fusion], *names, 6, 1)]
    assert [describe_genotype(g, fusion.space)["parameter_free"] for g in capped] == [1] * len(capped)
    assert capped[0] == derive([fusion], *names, 1)
    assert len({g.id for g in capped}) == len(capped)
