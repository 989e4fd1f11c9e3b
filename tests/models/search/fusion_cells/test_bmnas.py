"""The BM-NAS space: parameter counts of the paper's public code, and the found network as the supernet's own part."""

import random
from itertools import combinations

import pytest
import torch
from torch import nn

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import SEQUENCES
from models.search.fusion_cells.derive import derive_cell, final_weights
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import CellGenotype, StepGenotype
from models.search.fusion_cells.genotype_file import FusionReader
from models.search.fusion_cells.layers import Features
from models.search.fusion_cells.random_genotypes import draw_genotype, mutated
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.parameters import weight_parameters
from utils.errors import UserError

MMIMDB = CellSpace(6, 192, 2, 2, 1, 1, name="bmnas", length=16)
NTU = CellSpace(8, 128, 2, 2, 2, 2, name="bmnas", length=8)
EGO = CellSpace(8, 128, 2, 2, 3, 3, name="bmnas", length=8)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in weight_parameters(module))


@pytest.mark.parametrize(("space", "expected"), [(MMIMDB, 482_688), (NTU, 480_512)])
def test_supernets_have_the_published_number_of_parameters(space, expected):
    assert count(SearchableFusion(space)) == expected


def of_operations(name: str, space: CellSpace = MMIMDB) -> CellGenotype:
    """Return the cell of features 2, 5 and 3, 4 with one operation."""
    step = StepGenotype((("skip", 0), ("skip", 1)), (name,), space.inner_concat)
    edges = tuple(("skip", state) for state in (2, 5, 3, 4))
    return CellGenotype(edges, (step, step), space.concat)


# Of the published numbers, reshape and fusion together, less the reshape layers of features 2 to 5.
RESHAPE = 2 * (512 * 192 + 192) + (64 * 192 + 192) + (128 * 192 + 192) + 4 * 2 * 192


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Sum", 260_352), ("ScaleDotAttn", 272_640), ("LinearGLU", 557_568), ("ConcatFC", 408_960)],
)
def test_found_networks_have_the_published_number_of_parameters(name, expected):
    assert count(FoundFusion(of_operations(name), MMIMDB.features)) + RESHAPE == expected


@pytest.mark.parametrize("space", [MMIMDB, NTU, EGO])
def test_a_supernet_mixes_and_runs_as_its_part(space):
    torch.manual_seed(0)
    fusion = SearchableFusion(space).eval()
    features = [torch.randn(3, space.channels, space.length) for _ in range(space.num_inputs)]
    out = fusion(features)
    assert out.shape == (3, space.multiplier * space.channels, space.length)
    assert out.min() >= 0
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (fusion.alpha_edges, fusion.alpha_ops))
    inner = tuple(("skip", k) for step in range(space.node_steps) for k in (step, step + 1))
    ops = (*space.op_names, *space.op_names)[1 : 1 + space.node_steps]
    step = StepGenotype(inner, ops, space.inner_concat)
    cell = CellGenotype(tuple(("skip", s) for s in (2, 5, 3, 4)), (step, step), space.concat)
    fusion.activate(cell)
    found = FoundFusion(cell, space.features).eval()
    assert found(features).shape == out.shape
    found.load_state_dict(fusion._path[0].state_dict())
    torch.testing.assert_close(fusion(features), found(features))


def test_layer_norm_is_over_channels_and_positions():
    norm = Features(SEQUENCES, 4, 3).end_norm()
    out = norm(torch.randn(5, 4, 3) * 7 + 2)
    torch.testing.assert_close(out.mean(dim=(1, 2)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=(1, 2), correction=0), torch.ones(5), atol=1e-3, rtol=0)


def brute_force(weights, space: CellSpace) -> list[tuple[int, int]]:
    """Return the pairs by the paper's rule, written down anew: the best pair of all states so far, no pair twice."""
    taken, first = [], 0
    for step in range(space.steps):
        count = space.num_inputs + step
        best = weights.edges[0, first : first + count, 1]
        pairs = [(j, k) for j in range(count) for k in range(j + 1, count) if (j, k) not in taken]
        taken.append(max(pairs, key=lambda pair: float(best[pair[0]] * best[pair[1]])))
        first += count
    return taken


@pytest.mark.parametrize("seed", range(8))
def test_by_the_papers_rule_steps_read_steps_and_no_pair_comes_twice(seed):
    torch.manual_seed(seed)
    space = CellSpace(3, 8, 4, 2, 1, 1, name="bmnas", length=4, predecessors="all")  # too many steps for the other rule
    fusion = SearchableFusion(space)
    with torch.no_grad():
        fusion.alpha_edges.normal_()
        fusion.alpha_edges[3 + 3, 1] += 5 * (seed % 2)  # the first step, as seen by the second
    cell = derive_cell(final_weights(fusion), space)
    pairs = [(cell.edges[2 * i][1], cell.edges[2 * i + 1][1]) for i in range(4)]
    assert pairs == brute_force(final_weights(fusion), space)
    assert len(set(pairs)) == 4
    if seed % 2:
        assert 3 in pairs[1]
    assert FoundFusion(cell, space.features)([torch.randn(2, 8, 4) for _ in range(3)]).shape == (2, 16, 4)


def test_drawn_and_changed_cells_obey_the_papers_rule_and_take_all_that_it_allows():
    space = CellSpace(2, 8, 3, 2, 1, 1, name="bmnas", length=4, predecessors="all")
    rng, seen = random.Random(0), set()
    genotype = draw_genotype(space, ("image/1", "text/1"), ("fusion",), rng)
    for _ in range(300):
        genotype = mutated(genotype, space, rng)
        cell = genotype.cells[0]
        pairs = [tuple(sorted((cell.edges[2 * i][1], cell.edges[2 * i + 1][1]))) for i in range(3)]
        assert len(set(pairs)) == 3
        assert all(a != b and b < 2 + i for i, (a, b) in enumerate(pairs))
        seen.add(tuple(pairs))
    allowed = {(p, q, r) for p in [(0, 1)] for q in combinations(range(3), 2) for r in combinations(range(4), 2)}
    assert seen == {one for one in allowed if len(set(one)) == 3}


def test_the_other_rule_runs_out_of_pairs():
    with pytest.raises(UserError, match="input pairs run out"):
        CellSpace(6, 8, 4, 2, name="bmnas", length=4)


def test_a_genotype_of_sequences_is_refused_where_maps_are_fused():
    space = CellSpace(4, 8, 2, 2, 1, 1, name="bmnas", length=4)
    inputs = tuple(f"{m}/bifpn{r}" for m in ("thermal", "rgb") for r in (1, 2))
    data = draw_genotype(space, inputs, ("P3",), random.Random(0)).to_json()
    with pytest.raises(UserError, match="g.json: field space: expected fusion_v1, found 'bmnas'"):
        FusionReader(inputs, ("P3",), 8).from_json(data, "g.json")
