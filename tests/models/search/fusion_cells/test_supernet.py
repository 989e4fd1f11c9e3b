"""Supernet and found cells: one-hot logits give the found cell, `none` takes its share, gradients reach everything."""

import random

import pytest
import torch

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import MAPS, SKIP
from models.search.fusion_cells.derive import derive_cell, final_weights
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import CellGenotype, StepGenotype
from models.search.fusion_cells.layers import Features
from models.search.fusion_cells.random_genotypes import draw_cell
from models.search.fusion_cells.supernet import SearchableFusion, mix_all, mix_skips
from models.search.relaxations import Stage
from utils.errors import UserError

SPACE = CellSpace(num_inputs=4, channels=8, steps=2, multiplier=2, node_steps=1, node_multiplier=1)


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
    space = CellSpace(num_inputs=4, channels=8, node_multiplier=node_multiplier)
    fusion = SearchableFusion(space).double().eval()
    one_hot(fusion, source=2, op=op)
    step = StepGenotype((("skip", 0), ("skip", 0)), (space.op_names[op],), space.inner_concat)
    found = FoundFusion(CellGenotype((("skip", 2),) * 4, (step,) * 2, space.concat), space.features).double().eval()
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
    (mixed,) = mix_skips(states, weights[None])
    torch.testing.assert_close(mixed, 0.1 * states[0] + 0.5 * states[1] + states[2])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_all_mixtures_at_once(layout):
    states = [t.contiguous(memory_format=layout) for t in torch.randn(3, 2, 4, 5, 6)]
    weights = torch.rand(2, 3, 2)
    for mixed, own in zip(mix_all(states, weights[..., SKIP]), mix_skips(states, weights), strict=True):
        torch.testing.assert_close(mixed, own)
        assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_gradient_reaches_every_weight_and_logit():
    fusion = SearchableFusion(CellSpace(num_inputs=4, channels=8, node_steps=2, node_multiplier=2))
    for name, p in fusion.named_parameters():
        if "spatial_weight" in name:
            torch.nn.init.ones_(p)  # starts closed: no gradient to the norm before it
    fusion(list(torch.randn(4, 2, 8, 5, 6))).square().sum().backward()
    assert [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_found_cell_ignores_inputs_that_it_does_not_read():
    step = StepGenotype((("skip", 0), ("skip", 1)), ("Sum",), (0, 1, 2))
    found = FoundFusion(CellGenotype((("skip", 0), ("skip", 3)) * 2, (step,) * 2, (4, 5)), Features(MAPS, 8)).eval()
    inputs = list(torch.randn(4, 1, 8, 5, 6))
    changed = [inputs[0], torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6), inputs[3]]
    torch.testing.assert_close(found(inputs), found(changed))
    assert not torch.allclose(found(inputs), found([inputs[1], *inputs[1:]]))


def test_logits_start_small_and_differ():
    logits = torch.cat([p.flatten() for n, p in SearchableFusion(SPACE).named_parameters() if "alpha" in n])
    assert 0 < logits.abs().max() < 1e-2
    assert logits.unique().numel() == logits.numel()


def settle(fusion: SearchableFusion, cell: CellGenotype) -> None:
    """Give the choices of a cell nearly all of the weight."""
    space, first = fusion.space, 0
    edges = fusion.alpha_edges.data.view(space.ports, sum(space.edges_per_step), -1)
    inner = fusion.alpha_inner_edges.data.view(space.steps, space.ports, -1, 2)
    for alpha in (edges, inner, fusion.alpha_ops.data):
        alpha.fill_(-1e4)
    edges[:, :, 0] = inner[:, :, :, 0] = 0
    for i, step in enumerate(cell.steps):
        for port, (name, state) in enumerate(cell.edges[2 * i : 2 * i + 2]):
            row = edges[port, first + state]
            row[0], row[space.edge_ops.index(name)] = -1e4, 0
        for port, (_, state) in enumerate(step.inner_edges):
            inner[i, port, state] = torch.tensor([-1e4, 0.0])
        fusion.alpha_ops.data[i, 0, space.op_names.index(step.inner_steps[0])] = 0
        first += space.num_inputs + i


@pytest.mark.parametrize("seed", range(6))
def test_settled_logits_path_and_found_network_are_one(seed):
    """In the richer space, two inputs per node: mixture, path on shared weights, found network that loads them."""
    torch.manual_seed(seed)
    space = CellSpace(6, 8, name="fusion_v2", pair_inputs=True)
    fusion = SearchableFusion(space).double().eval()
    cell = draw_cell(space, random.Random(seed))
    settle(fusion, cell)
    for node in fusion.nodes:
        node.out_bn.bias.data.fill_(50)  # keeps the found network's ReLU open: the supernet has none
    path = fusion.path(cell)
    found = FoundFusion(cell, Features(MAPS, 8)).double().eval()
    found.load_state_dict(path.state_dict())
    inputs = list(torch.randn(6, 2, 8, 5, 6, dtype=torch.float64))
    torch.testing.assert_close(path(inputs), found(inputs), rtol=0, atol=0)
    torch.testing.assert_close(fusion(inputs), found(inputs))
    assert derive_cell(final_weights(fusion), space) == cell


def test_a_path_trains_the_supernets_own_weights_and_no_others():
    space = CellSpace(6, 8, name="fusion_v2")
    fusion = SearchableFusion(space)
    cell = draw_cell(space, random.Random(1))
    before = torch.get_rng_state()
    fusion.activate(cell)
    assert torch.equal(before, torch.get_rng_state())
    fusion(list(torch.randn(6, 2, 8, 5, 6))).square().sum().backward()
    reached = {name for name, p in fusion.named_parameters() if p.grad is not None}
    own = {id(p) for p in fusion.path(cell).parameters()}
    assert {id(p) for name, p in fusion.named_parameters() if name in reached} == own
    assert not any("alpha" in name for name in reached)
    assert set(fusion.state_dict()) == set(SearchableFusion(space).state_dict())
    fusion.activate(None)
    fusion.eval()
    assert not any(m.training for m in fusion.modules())


def test_a_states_convolutions_run_once_for_all_steps_that_read_it():
    space, ran = CellSpace(6, 8, steps=3, name="fusion_v2"), []
    fusion = SearchableFusion(space)
    assert len(fusion.edges) == 6 + 2  # nobody reads the last step
    for state in fusion.edges:
        for op in state:
            op.register_forward_hook(lambda *a: ran.append(a[0]))
    fusion(list(torch.randn(6, 2, 8, 5, 6)))
    assert len(ran) == len(set(ran)) == 2 * 8
    cell = CellGenotype((("sep_conv_3x3", 1), ("skip", 2)) * 3, draw_cell(space, random.Random(0)).steps, space.concat)
    path = fusion.path(cell)
    assert path.edges[0] is path.edges[2] is path.edges[4] is fusion.edges[1][0]


def test_one_drawn_operation_alone_runs_in_gdas():
    space = CellSpace(6, 8, name="fusion_v2", pair_inputs=True)
    fusion = SearchableFusion(space, relaxation="gumbel")
    fusion.stage = Stage(0.5, "weights")
    ran = []
    for step in fusion.nodes:
        for op in step.steps[0]:
            op.register_forward_hook(lambda *a: ran.append(a[0]))
    fusion(list(torch.randn(6, 2, 8, 5, 6))).square().sum().backward()
    assert len(ran) == space.steps
    assert fusion.alpha_ops.grad.abs().sum() > 0
    assert fusion.alpha_edges.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "pair"), [("fusion_v1", False), ("fusion_v2", True)])
def test_partial_channels_mix_a_quarter_and_pass_the_rest(name, pair):
    """Against PC-DARTS in words: per edge, [mixture of the front; the back], weighed by its share, then shuffled."""
    torch.manual_seed(0)
    space = CellSpace(4, 16, name=name, pair_inputs=pair, steps=1, multiplier=1)
    fusion = SearchableFusion(space, partial=4).double()
    inputs = list(torch.randn(4, 2, 16, 5, 6, dtype=torch.float64))
    seen = []
    fusion.nodes[0].register_forward_hook(lambda module, given, out: seen.extend(given[:2]))
    fusion(inputs)
    edges, state_weights = fusion.weights().edges, fusion.state_weights()[0]
    torch.testing.assert_close(state_weights.sum(dim=-1), torch.ones(space.ports, dtype=torch.float64))
    for port, got in zip(range(space.ports), (seen[0], seen[-1])):
        front, back = 0, 0
        for j, state in enumerate(inputs):
            mixed = edges[port, j, SKIP] * state[:, :4]
            for o, op in enumerate(fusion.edges[j] if len(fusion.edges) else [], start=2):
                mixed = mixed + edges[port, j, o] * op(state[:, :4])
            front, back = front + state_weights[port, j] * mixed, back + state_weights[port, j] * state[:, 4:]
        whole = torch.cat((front, back), dim=1)
        shuffled = torch.stack([whole[:, (c % 4) * 4 + c // 4] for c in range(16)], dim=1)
        torch.testing.assert_close(got, shuffled)


def test_partial_channels_refuse_a_width_that_does_not_divide():
    with pytest.raises(UserError, match="multiple of 8"):
        SearchableFusion(CellSpace(4, 20), partial=4)
