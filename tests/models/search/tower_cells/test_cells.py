"""Supernet and found cells of towers against plain loops, autograd and published counts."""

import random
from functools import partial

import pytest
import torch
from torch import nn

from models.search.costs import macs
from models.search.parameters import arch_parameters, count_parameters, weight_parameters
from models.search.relaxations import Stage
from models.search.second_order import second_order_backward
from models.search.tower_cells import joined
from models.search.tower_cells.found import FoundTower
from models.search.tower_cells.joined import JoinedEdges
from models.search.tower_cells.layers import MixedEdge, depthwise, group_norm, make_layer
from models.search.tower_cells.operations import CHAINS, EDGES, SPACES
from models.search.tower_cells.space import TowerSpace
from models.search.tower_cells.supernet import TowerSupernet
from tests.models.search.tower_cells.published import OTHER, PAPER
from utils.errors import UserError

W, C = 16, 8


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return torch.randn(2, W, 5, 6).double(), torch.randn(2, W, 5, 6).double()


def supernet_of(name="fad10", **options) -> TowerSupernet:
    torch.manual_seed(0)
    supernet = TowerSupernet(TowerSpace(name=name), W, C, **options).double()
    with torch.no_grad():
        supernet.alpha_edges.normal_()
    return supernet


def mixture(edge: MixedEdge, x, row, names):
    """An edge as the specification has it: each operation on its own chain, no layer computed once for several."""
    out = 0
    for weight, name in zip(row[1:], names, strict=True):
        chain, y = CHAINS[name], x
        for end in range(1, len(chain) + 1):
            y = edge.layers["_".join(chain[:end])](y)
        key = "_".join(chain)
        out = out + weight * (edge.decouple[key](y) if key in edge.decouple else y)
    return out


def plain_cell(supernet: TowerSupernet, s0, s1, names):
    """The unfolded cell: one enter and one leave per edge."""
    states, weights = [s0, s1], dict(zip(EDGES, supernet.weights(), strict=True))
    edges = dict(zip(EDGES, supernet.edges, strict=True))
    for node in range(3):
        total = 0
        for source in range(2 + node):
            edge = edges[node, source]
            total = total + edge.leave(mixture(edge, edge.enter(states[source]), weights[node, source], names))
        states.append(total)
    return torch.cat(states[2:], dim=1)


@pytest.mark.parametrize("decouple", [True, False])
@pytest.mark.parametrize("name", SPACES)
def test_the_folded_supernet_equals_the_unfolded_loop(name, decouple, maps):
    supernet = supernet_of(name, decouple=decouple)
    out, expected = supernet(*maps), plain_cell(supernet, *maps, SPACES[name])
    assert out.shape == (2, 3 * W, 5, 6)
    assert (out - expected).abs().max() <= 1e-12 * expected.abs().max()
    probe = torch.randn_like(out)
    parameters = list(supernet.parameters())
    ours, theirs = (torch.autograd.grad((o * probe).sum(), parameters) for o in (out, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_cells", [1, 2])
def test_the_folded_found_tower_equals_the_unfolded_loop(num_cells, maps):
    torch.manual_seed(0)
    tower = FoundTower(PAPER[0], W, C, num_cells).double()
    s0, s1 = maps
    for number, cell in enumerate(tower.cells):
        states = [s0, s1]
        if number:
            states[1] = torch.relu(cell.prepare[1][1](cell.prepare[1][0](s1)))
        for node in range(3):
            total = 0
            for (_, source), edge in list(zip(PAPER[0].edges, cell.edges))[2 * node : 2 * node + 2]:
                total = total + edge.leave(edge.layers(edge.enter(states[source])))
            states.append(total)
        s0, s1 = s1, torch.cat(states[2:], dim=1)
    out = tower(*maps)
    assert (out - s1).abs().max() <= 1e-12 * s1.abs().max()
    assert out.shape == (2, 3 * W, 5, 6)


def found_layers(edge: MixedEdge, name: str) -> nn.Sequential:
    """A found operation with the weights of a shared edge."""
    chain = CHAINS[name]
    layers = nn.Sequential(*(make_layer(kind, C) for kind in chain)).double()
    for end, layer in enumerate(layers, 1):
        layer.load_state_dict(edge.layers["_".join(chain[:end])].state_dict())
    return layers


@pytest.mark.parametrize("name", CHAINS)
def test_a_one_hot_edge_with_identity_decoupling_is_the_found_operation(name):
    supernet = supernet_of("fad12")
    edge, (x,) = supernet.edges[0], torch.randn(1, 2, C, 7, 6).double()
    for conv in edge.decouple.values():
        nn.init.dirac_(conv.weight)
    with torch.no_grad():
        supernet.alpha_edges.fill_(-200).select(1, 1 + SPACES["fad12"].index(name)).fill_(200)
    row = dict(zip(CHAINS.values(), supernet.weights()[0, 1:], strict=True))
    expected = found_layers(edge, name)(x)
    assert (JoinedEdges([edge], [row])([x])[0] - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("decouple", [True, False])
def test_an_active_genotype_runs_the_found_tower_on_the_own_weights(decouple, maps):
    """Decoupling included; a found tower has it as part of its leaving convolution, whose biases are 0."""
    supernet = supernet_of("fad12", decouple=decouple)
    cell = TowerSpace(name="fad12").sample(random.Random(2)).cells[0]
    tower = FoundTower(cell, W, C).double()
    for end, (name, _), edge in zip(cell.ends, cell.edges, tower.cells[0].edges, strict=True):
        own, key = supernet.edges[EDGES.index(end)], "_".join(CHAINS[name])
        edge.layers = found_layers(own, name)
        leave = own.leave.weight.flatten(1)
        if key in own.decouple:
            leave = leave @ own.decouple[key].weight.flatten(1)
        with torch.no_grad():
            edge.enter.weight.copy_(own.enter.weight)
            edge.leave.weight.copy_(leave.reshape(W, C, 1, 1))
            for conv in (edge.enter, edge.leave):
                conv.bias.zero_()
    mixed = supernet(*maps)
    supernet.activate(cell)
    torch.testing.assert_close(supernet(*maps), tower(*maps), rtol=1e-12, atol=1e-12)
    supernet.activate(None)
    assert torch.equal(supernet(*maps), mixed)


def ran(supernet: nn.Module, maps) -> set[str]:
    """The layers of edges that an output depends on."""
    supernet.zero_grad(set_to_none=True)
    supernet(*maps).square().mean().backward()
    learnt = [name for name, value in supernet.named_parameters() if value.grad is not None]
    return {".".join(name.split(".")[:4]) for name in learnt if ".layers." in name}


def test_an_active_genotype_runs_only_the_prefixes_that_it_needs(maps):
    supernet, expected = supernet_of(), set()
    supernet.activate(PAPER[0])
    for end, (name, _) in zip(PAPER[0].ends, PAPER[0].edges, strict=True):
        chain = CHAINS[name]
        keys = ("_".join(chain[:n]) for n in range(1, len(chain) + 1))
        expected |= {f"edges.{EDGES.index(end)}.layers.{key}" for key in keys}
    assert ran(supernet, maps) == expected
    assert macs(supernet.float(), [x.float() for x in maps]) < 0.5 * macs(
        supernet_of().float(), [x.float() for x in maps]
    )


def test_operations_that_were_not_drawn_do_not_run(maps):
    supernet = supernet_of(relaxation="gumbel").train()
    supernet.stage = Stage(0.5, "weights")
    torch.manual_seed(4)
    assert 0 < len(ran(supernet, maps)) <= 27
    out = supernet(*maps)
    out.square().mean().backward()
    assert supernet.alpha_edges.grad.abs().sum() > 0


def test_a_tower_whose_edges_all_draw_none_is_zero(maps):
    supernet = supernet_of(relaxation="gumbel").train()
    supernet.stage = Stage(1.0, "weights")
    with torch.no_grad():
        supernet.alpha_edges[:, 0] = 1e6
    assert torch.equal(supernet(*maps), torch.zeros(2, 3 * W, 5, 6).double())


def test_one_draw_serves_all_levels(maps):
    supernet = supernet_of(relaxation="dirichlet").train()
    supernet.stage = Stage(0.5, "weights")
    first, second = supernet.over_levels([maps[0]] * 2, [maps[1]] * 2)
    assert torch.equal(first, second)
    assert not torch.equal(first, supernet(*maps))
    tower = FoundTower(PAPER[0], W, C).double()
    assert torch.equal(tower.over_levels([maps[0]], [maps[1]])[0], tower(*maps))


def reduced(tower: nn.Module, width: int = 256) -> nn.ModuleList:
    return nn.ModuleList([tower, nn.Conv2d(3 * width, width, 1)])


def test_published_counts_of_supernets():
    with torch.device("meta"):
        for name, channels, count in (("fad10", 96, 3_678_048), ("fad10", 128, 6_304_896), ("fad12", 96, 3_866_400)):
            supernet = TowerSupernet(TowerSpace(name=name), 256, channels)
            assert sum(p.numel() for p in weight_parameters(supernet)) == count
        edge = MixedEdge([CHAINS[name] for name in SPACES["fad10"]], 256, 96)
    assert count_parameters(edge) - count_parameters(edge.enter) - count_parameters(edge.leave) == 359_520
    assert 2 * sum(p.numel() for p in arch_parameters(TowerSupernet(TowerSpace(), 8, 8))) == 198


@pytest.mark.parametrize(
    ("channels", "box", "cls", "paper", "other"),
    [(96, 1_935_552, 1_644_288, 3_973_568, 4_973_312), (128, 3_013_632, 2_494_208, 5_901_568, 7_685_120)],
)
def test_published_counts_of_found_towers(channels, box, cls, paper, other):
    with torch.device("meta"):
        towers = [FoundTower(cell, 256, channels, num_cells=2) for cell in (*PAPER, *OTHER)]
        reduce = nn.Conv2d(3 * 256, 256, 1)
        plain = nn.Sequential(*(make_layer("std", 256) for _ in range(8)))
    counts = list(map(count_parameters, towers))
    assert counts[:2] == [box, cls]
    assert count_parameters(reduce) == 196_864
    assert sum(counts[:2]) + 2 * 196_864 == paper
    assert sum(counts[2:]) + 2 * 196_864 == other
    assert count_parameters(plain) == 4_724_736


def multiplications(module: nn.Module, num_inputs: int = 2) -> int:
    """Per position, by torch's counter; depthwise convolutions count 9 per channel."""
    return round(macs(module, [torch.zeros(1, 256, 4, 4, device="meta")] * num_inputs) / 16)


@pytest.mark.parametrize(("channels", "paper", "searched"), [(96, 3_947_520, 7_690_560), (128, 5_869_568, 12_924_672)])
def test_published_multiplications(channels, paper, searched):
    reduces = 2 * 3 * 256 * 256
    with torch.device("meta"):
        towers = [FoundTower(cell, 256, channels, num_cells=2) for cell in PAPER]
        supernet = TowerSupernet(TowerSpace(), 256, channels)
        plain = nn.Sequential(*(make_layer("std", 256) for _ in range(8)))
    assert sum(map(multiplications, towers)) + reduces == paper
    assert 2 * multiplications(supernet) + reduces == searched
    assert multiplications(plain, 1) == 4_718_592


def test_logits_and_weights_are_a_disjoint_complete_partition():
    supernet = supernet_of()
    logits, weights = arch_parameters(supernet), weight_parameters(supernet)
    assert [id(p) for p in logits] == [id(supernet.alpha_edges)]
    assert {id(p) for p in logits + weights} == {id(p) for p in supernet.parameters()}
    assert len(logits + weights) == len(list(supernet.parameters()))
    assert "alpha_edges" in supernet.state_dict()
    assert supernet.alpha_edges.shape == (9, 11)
    fresh = TowerSupernet(TowerSpace(), W, C).alpha_edges
    assert 0 < fresh.abs().max() < 1e-2


def test_a_weight_step_leaves_logits_and_its_weights_move_their_gradient(maps):
    supernet = supernet_of()
    before = supernet.alpha_edges.detach().clone()

    def logit_gradient():
        return torch.autograd.grad(supernet(*maps).square().mean(), supernet.alpha_edges)[0]

    first = logit_gradient()
    optimizer = torch.optim.SGD(weight_parameters(supernet), lr=0.1, momentum=0.9, weight_decay=1e-4)
    supernet(*maps).square().mean().backward()
    optimizer.step()
    assert torch.equal(supernet.alpha_edges, before)
    assert (logit_gradient() - first).abs().max() > 1e-6


def test_second_order_of_the_supernet_against_autograd(maps):
    """Layers end smoothly here, since the finite difference crosses kinks of ReLUs, whose derivative autograd omits."""
    supernet, xi = supernet_of(), 0.05
    for edge in supernet.edges:
        for layer in edge.layers.values():
            layer.relu = nn.Softplus()
    target = torch.randn(2, 3 * W, 5, 6).double()
    batches = [maps, [x.flip(0) + 0.3 for x in maps]]
    logits, weights = arch_parameters(supernet), weight_parameters(supernet)
    names = {id(p): name for name, p in supernet.named_parameters()}

    def loss_of(out):
        return (out - target).square().mean()

    steps = torch.autograd.grad(loss_of(supernet(*batches[0])), weights, create_graph=True)
    moved = {names[id(w)]: w - xi * g for w, g in zip(weights, steps, strict=True)}
    out = torch.func.functional_call(supernet, moved, tuple(batches[1]))
    expected = torch.autograd.grad(loss_of(out), logits)[0]
    first = torch.autograd.grad(loss_of(supernet(*batches[1])), logits)[0]
    sides = [lambda batch=batch: {"loss": loss_of(supernet(*batch))} for batch in batches]
    second_order_backward(supernet, *sides, weights, logits, xi)
    error, term = (supernet.alpha_edges.grad - expected).abs().max(), (first - expected).abs().max()
    assert term > 1e-4
    assert error < 1e-7


@pytest.mark.parametrize(("channels", "groups"), [(96, 32), (64, 32), (48, 16), (20, 4), (7, 1)])
def test_groups_are_the_largest_power_of_two_that_divides(channels, groups):
    assert group_norm(channels).num_groups == groups
    assert group_norm(channels).eps == 1e-5


def test_partial_channels_are_refused_in_one_line():
    with pytest.raises(UserError, match="^--strategy pcdarts: expected .*") as error:
        TowerSupernet(TowerSpace(), W, C, partial=4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dilation", [2, 3])
def test_the_gradients_of_a_dilated_convolution_are_those_of_autograd(dilation):
    """Sides that the dilation divides, and that it does not; with gradients of gradients."""
    torch.manual_seed(0)
    kernel, bias = torch.randn(4, 1, 3, 3).double().requires_grad_(), torch.randn(4).double().requires_grad_()
    for size in ((6, 6), (5, 7)):
        x = torch.randn(2, 4, *size).double().requires_grad_()
        apply = partial(depthwise, dilation=dilation)
        assert torch.autograd.gradcheck(apply, (x, kernel, bias))
        assert torch.autograd.gradgradcheck(apply, (x, kernel, bias))


def test_edges_run_one_by_one_as_joined(maps, monkeypatch):
    expected = supernet_of()(*maps)
    monkeypatch.setattr(joined, "MOST_VALUES", 1)
    torch.testing.assert_close(supernet_of()(*maps), expected, rtol=1e-12, atol=1e-12)
