"""Second-order logit gradients against autograd in float64."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.parameters import arch_parameters, weight_parameters
from models.search.second_order import second_order_backward

XI = 0.05


class Toy(nn.Module):
    """A small net whose logits mix two layers, with a norm whose buffers move in training."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.norm = nn.BatchNorm1d(4)
        self.alpha = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x):
        mixed = sum(w * torch.tanh(layer(x)) for w, layer in zip(self.alpha.softmax(0), self.layers, strict=True))
        return self.norm(mixed).square().sum(1)


def losses(model, x, y):
    return {"loss": (model(x) - y).square().mean()}


@pytest.fixture
def problem():
    torch.manual_seed(0)
    model = Toy().double()
    batches = [(torch.randn(6, 4).double(), torch.rand(6).double() * 8) for _ in range(2)]
    weights = [p for n, p in model.named_parameters() if n != "alpha"]
    return model, weights, *batches


def exact(model, weights, train, arch):
    """d/d alpha of L_arch(w - xi dL_train/dw, alpha), by autograd through the weight step."""
    names = [n for n, _ in model.named_parameters() if n != "alpha"]
    start = losses(model, *train)["loss"]
    steps = torch.autograd.grad(start, weights, create_graph=True)
    moved = {n: w - XI * g for n, w, g in zip(names, weights, steps, strict=True)} | {"alpha": model.alpha}
    out = torch.func.functional_call(model, moved, (arch[0],))
    return torch.autograd.grad((out - arch[1]).square().mean(), model.alpha)[0]


def test_second_order_against_autograd(problem):
    model, weights, train, arch = problem
    expected = exact(model, weights, train, arch)
    second_order_backward(
        model, lambda: losses(model, *train), lambda: losses(model, *arch), weights, [model.alpha], XI
    )
    found = model.alpha.grad
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    first = torch.autograd.grad(losses(model, *arch)["loss"], model.alpha)[0]
    assert (first - expected).abs().max() > 1e-3  # first order is clearly something else


def test_parameters_and_buffers_are_left_as_they_were(problem):
    model, weights, train, arch = problem
    before = {k: v.clone() for k, v in model.state_dict().items()}
    second_order_backward(
        model, lambda: losses(model, *train), lambda: losses(model, *arch), weights, [model.alpha], XI
    )
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(w.grad is None for w in weights)


def test_both_sides_draw_the_same_dropout_mask(problem):
    """Two masks would put their difference, divided by 2 eps, into the gradient."""
    model, weights, train, arch = problem
    drawn = []

    def train_losses():
        drawn.append(torch.rand(3))  # as dropout would
        return losses(model, *train)

    second_order_backward(model, train_losses, lambda: losses(model, *arch), weights, [model.alpha], XI)
    _, plus, minus = drawn
    assert torch.equal(plus, minus)


def test_the_public_form_of_the_difference_would_fail(problem):
    """`(p - n) / 2. * eps` is the fault: its term vanishes, so it equals the gradient at w' alone."""
    model, weights, train, arch = problem
    expected = exact(model, weights, train, arch)
    start = [w.detach().clone() for w in weights]
    moves = torch.autograd.grad(losses(model, *train)["loss"], weights)
    with torch.no_grad():
        for w, g in zip(weights, moves, strict=True):
            w -= XI * g
    loss = losses(model, *arch)["loss"]
    *v, at_moved = torch.autograd.grad(loss, [*weights, model.alpha])
    eps = 0.01 / torch.sqrt(sum(g.square().sum() for g in v))
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for w, w0, g in zip(weights, start, v, strict=True):
                w.copy_(w0 + sign * eps * g)
        sides.append(torch.autograd.grad(losses(model, *train)["loss"], model.alpha)[0])
    faulty = at_moved - XI * (sides[0] - sides[1]) / 2.0 * eps
    right = at_moved - XI * (sides[0] - sides[1]) / (2.0 * eps)
    torch.testing.assert_close(right, expected, rtol=1e-5, atol=1e-6)
    assert (faulty - expected).abs().max() > 1e3 * (right - expected).abs().max()
    assert (faulty - at_moved).abs().max() < 1e-4 * at_moved.abs().max()


@pytest.mark.parametrize(("name", "pair"), [("fusion_v1", False), ("fusion_v2", True)])
def test_second_order_of_a_supernet_against_autograd(name, pair):
    torch.manual_seed(0)
    model = SearchableFusion(CellSpace(4, 8, steps=1, multiplier=1, name=name, pair_inputs=pair)).double()
    batches = [(list(torch.randn(4, 2, 8, 4, 5).double()), torch.randn(2, 8, 4, 5).double()) for _ in range(2)]
    logits, weights = arch_parameters(model), weight_parameters(model)
    names = {id(p): name for name, p in model.named_parameters()}

    def loss_of(out, target):
        return (out - target).square().mean()

    with sdpa_kernel(SDPBackend.MATH):  # the fast one has no second derivative
        steps = torch.autograd.grad(loss_of(model(batches[0][0]), batches[0][1]), weights, create_graph=True)
    moved = {names[id(w)]: w - XI * g for w, g in zip(weights, steps, strict=True)}
    out = torch.func.functional_call(model, moved, (batches[1][0],))
    options = {"allow_unused": True, "materialize_grads": True}
    expected = torch.autograd.grad(loss_of(out, batches[1][1]), logits, **options)
    first = torch.autograd.grad(loss_of(model(batches[1][0]), batches[1][1]), logits, **options)
    sides = [lambda batch=batch: {"loss": loss_of(model(batch[0]), batch[1])} for batch in batches]
    second_order_backward(model, *sides, weights, logits, XI)
    for logit, exact_one, first_one in zip(logits, expected, first, strict=True):
        torch.testing.assert_close(logit.grad, exact_one, rtol=0, atol=1e-6)
        if exact_one.abs().max() > 0:
            assert (first_one - exact_one).abs().max() > 1e-5
