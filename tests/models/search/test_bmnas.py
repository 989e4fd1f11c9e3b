"""The BM-NAS space: parameter counts of the paper's public code, and the found network as the supernet's own part."""

import pytest
import torch
from torch import nn

from models.search.blocks import SEQUENCES, Features
from models.search.cells import SearchableFusion
from models.search.found_cells import FoundFusion
from models.search.genotypes import CellGenotype, StepGenotype
from models.search.parameters import weight_parameters
from models.search.spaces import Space

MMIMDB = Space(6, 192, 2, 2, 1, 1, name="bmnas", length=16)
NTU = Space(8, 128, 2, 2, 2, 2, name="bmnas", length=8)
EGO = Space(8, 128, 2, 2, 3, 3, name="bmnas", length=8)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in weight_parameters(module))


@pytest.mark.parametrize(("space", "expected"), [(MMIMDB, 482_688), (NTU, 480_512)])
def test_supernets_have_the_published_number_of_parameters(space, expected):
    assert count(SearchableFusion(space)) == expected


def of_operations(name: str, space: Space = MMIMDB) -> CellGenotype:
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
    fusion.take(cell)
    found = FoundFusion(cell, space.features).eval()
    assert found(features).shape == out.shape
    found.load_state_dict(fusion._path[0].state_dict())
    torch.testing.assert_close(fusion(features), found(features))


def test_layer_norm_is_over_channels_and_positions():
    norm = Features(SEQUENCES, 4, 3).end_norm()
    out = norm(torch.randn(5, 4, 3) * 7 + 2)
    torch.testing.assert_close(out.mean(dim=(1, 2)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=(1, 2), correction=0), torch.ones(5), atol=1e-3, rtol=0)
