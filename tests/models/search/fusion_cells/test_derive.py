"""Derivation against an independent brute force, ties, and what the log says of logits."""

import itertools
import math

import pytest
import torch

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.derive import derive, derive_cell, describe_genotype, mean_entropy
from models.search.fusion_cells.supernet import SearchableFusion, Weights


def brute_force_edges(weights: list[list[float]], space: CellSpace) -> list[int]:
    """Walk all pairs with plain loops, from the text of the rule."""
    chosen, out, row = set(), [], 0
    for step in range(space.steps):
        best, best_pair = -1.0, None
        for j in range(space.num_inputs):
            for k in range(j + 1, space.num_inputs):
                if j in chosen and k in chosen:
                    continue
                product = weights[row + j][1] * weights[row + k][1]
                if product > best:
                    best, best_pair = product, (j, k)
        chosen.update(best_pair)
        out += best_pair
        row += space.num_inputs + step
    return out


@pytest.mark.parametrize("seed", range(20))
def test_edges_against_brute_force(seed):
    torch.manual_seed(seed)
    space = CellSpace(num_inputs=6, channels=8, steps=3, multiplier=2, node_steps=2, node_multiplier=2)
    edges = torch.randn(sum(space.edges_per_step), 2).double().softmax(-1)
    inner = torch.randn(3, sum(space.inner_edges_per_step), 2).double().softmax(-1)
    ops = torch.randn(3, 2, 4).double().softmax(-1)
    cell = derive_cell(Weights(edges[None], inner[:, None], ops), space)
    assert [i for _, i in cell.edges] == brute_force_edges(edges.tolist(), space)
    for s, step in enumerate(cell.steps):
        assert step.inner_steps == tuple(space.op_names[o] for o in ops[s].argmax(-1))
        rows = inner[s, 2:5, 1].tolist()  # the second inner step may read x, y and the first inner step
        first, second = (i for _, i in step.inner_edges[2:])
        assert rows[first] == max(rows)
        assert rows[second] == sorted(rows)[-2]


def test_ties_take_the_first_pair_and_the_lowest_index():
    space = CellSpace(num_inputs=4, channels=8)
    edges = torch.full((1, sum(space.edges_per_step), 2), 0.5)
    cell = derive_cell(Weights(edges, torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 4), 0.25)), space)
    # The first step takes (0, 1); the second may repeat one of them, so (0, 2) comes first.
    assert cell.edges == (("skip", 0), ("skip", 1), ("skip", 0), ("skip", 2))
    assert cell.steps[0].inner_edges == (("skip", 0), ("skip", 1))
    assert cell.steps[0].inner_steps == ("Sum",)


def test_no_step_repeats_a_pair_up_to_the_limit():
    for num_inputs in (2, 3, 4, 5, 10):
        space = CellSpace(num_inputs, 8, steps=math.ceil(num_inputs / 2), multiplier=1)
        edges = torch.rand(1, sum(space.edges_per_step), 2, dtype=torch.float64)
        weights = Weights(edges, torch.rand(space.steps, 1, 2, 2), torch.rand(space.steps, 1, 4))
        cell = derive_cell(weights, space)
        pairs = [tuple(i for _, i in cell.edges[2 * s : 2 * s + 2]) for s in range(space.steps)]
        assert len(set(pairs)) == space.steps
        assert all(a < b for a, b in pairs)


def test_derivation_is_deterministic_and_leaves_logits_alone():
    fusions = [SearchableFusion(CellSpace(4, 8)) for _ in range(2)]
    before = [p.clone() for f in fusions for p in f.parameters()]
    names = ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2"), ("P3", "P4")
    first, second = derive(fusions, *names), derive(fusions, *names)
    assert first == second
    assert first.id == second.id
    assert all(torch.equal(a, b) for a, b in zip(before, itertools.chain(*(f.parameters() for f in fusions))))


def test_description_of_flat_and_sharp_logits():
    fusion = SearchableFusion(CellSpace(4, 8))
    with torch.no_grad():
        for alpha in (fusion.alpha_edges, fusion.alpha_inner_edges, fusion.alpha_ops):
            alpha.zero_()
        row = mean_entropy([fusion])
        assert row["entropy_edges"] == pytest.approx(math.log(2))
        assert row["entropy_ops"] == pytest.approx(math.log(4))
        fusion.alpha_ops[:, :, 3] = 100.0
    assert mean_entropy([fusion])["entropy_ops"] == pytest.approx(0, abs=1e-6)
    row = describe_genotype(derive([fusion], ("a", "b", "c", "d"), ("P3",)), fusion.space)
    assert (row["count_ConcatConv"], row["count_Sum"]) == (2, 0)
    assert row["argmax"] == "P3: 0+1 ConcatConv, 0+2 ConcatConv"
