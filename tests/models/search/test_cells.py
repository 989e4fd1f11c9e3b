"""Supernet and found cells: one-hot logits give the found cell, `none` takes its share, gradients reach everything."""

import pytest
import torch

from models.search.cells import SearchableFusion, mix_all, mix_skips
from models.search.found_cells import FoundFusion
from models.search.genotypes import CellGenotype, Space, StepGenotype
from models.search.operations import SKIP

SPACE = Space(num_inputs=4, channels=8, steps=2, multiplier=2, node_steps=1, node_multiplier=1)


def one_hot(fusion: SearchableFusion, source: int, op: int) -> None:
    """Make every step read one input alone, every node its first state alone, and use one operation."""
    with torch.no_grad():
        for alpha in (fusion.alpha_edges, fusion.alpha_inner_edges, fusion.alpha_ops):
            alpha.fill_(-1e4)
        fusion.alpha_edges[:, 0] = 0
        first = 0
        for i in range(fusion.space.steps):
            fusion.alpha_edges[first + source] = torch.tensor([-1e4, 0.0])
            first += fusion.space.num_inputs + i
        fusion.alpha_inner_edges[:, :, 0] = 0
        fusion.alpha_inner_edges[:, 0] = torch.tensor([-1e4, 0.0])
        fusion.alpha_ops[:, :, op] = 0


@pytest.mark.parametrize("op", range(4))
@pytest.mark.parametrize("node_multiplier", [1, 3])
def test_one_hot_supernet_equals_found_cell(op, node_multiplier):
    space = Space(num_inputs=4, channels=8, node_multiplier=node_multiplier)
    fusion = SearchableFusion(space).double().eval()
    one_hot(fusion, source=2, op=op)
    step = StepGenotype((("skip", 0), ("skip", 0)), (space.op_names[op],), space.inner_concat)
    found = FoundFusion(CellGenotype((("skip", 2),) * 4, (step,) * 2, space.concat), 8).double().eval()
    for node, theirs in zip(found.nodes, fusion.nodes, strict=True):
        node.ops[0].load_state_dict(theirs.steps[0][op].state_dict())
        node.bn.load_state_dict(theirs.bn.state_dict())
        if node_multiplier > 1:
            theirs.out_bn.bias.data.fill_(50)  # keeps the found network's ReLU open: the supernet has none
            node.out_conv.load_state_dict(theirs.out_conv.state_dict())
            node.out_bn.load_state_dict(theirs.out_bn.state_dict())
    found.out_conv.load_state_dict(fusion.out_conv.state_dict())
    inputs = list(torch.randn(4, 2, 8, 5, 6, dtype=torch.float64))
    torch.testing.assert_close(fusion(inputs), found(inputs))


def test_none_takes_its_share():
    states = list(torch.randn(3, 2, 4, 2, 2))
    weights = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    assert SKIP == 1
    torch.testing.assert_close(mix_skips(states, weights), 0.1 * states[0] + 0.5 * states[1] + states[2])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_all_mixtures_at_once(layout):
    states = [t.contiguous(memory_format=layout) for t in torch.randn(3, 2, 4, 5, 6)]
    weights = torch.rand(2, 3, 2)
    for mixed, own in zip(mix_all(states, weights), weights, strict=True):
        torch.testing.assert_close(mixed, mix_skips(states, own))
        assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_gradient_reaches_every_weight_and_logit():
    fusion = SearchableFusion(Space(num_inputs=4, channels=8, node_steps=2, node_multiplier=2))
    for name, p in fusion.named_parameters():
        if "spatial_weight" in name:
            torch.nn.init.ones_(p)  # starts closed: no gradient to the norm before it
    fusion(list(torch.randn(4, 2, 8, 5, 6))).square().sum().backward()
    assert [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_found_cell_ignores_inputs_that_it_does_not_read():
    step = StepGenotype((("skip", 0), ("skip", 1)), ("Sum",), (0, 1, 2))
    found = FoundFusion(CellGenotype((("skip", 0), ("skip", 3)) * 2, (step,) * 2, (4, 5)), 8).eval()
    inputs = list(torch.randn(4, 1, 8, 5, 6))
    changed = [inputs[0], torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6), inputs[3]]
    torch.testing.assert_close(found(inputs), found(changed))
    assert not torch.allclose(found(inputs), found([inputs[1], *inputs[1:]]))


def test_logits_start_small_and_differ():
    logits = torch.cat([p.flatten() for n, p in SearchableFusion(SPACE).named_parameters() if "alpha" in n])
    assert 0 < logits.abs().max() < 1e-2
    assert logits.unique().numel() == logits.numel()
