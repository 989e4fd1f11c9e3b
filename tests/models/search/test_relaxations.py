"""Relaxations against their definitions: what they scatter around, what is one-hot, what sums to one."""

import pytest
import torch

from models.search.relaxations import (
    EVALUATION,
    LEAST_NOISE,
    MOST_NOISE,
    Stage,
    dirichlet,
    gumbel,
    noisy_softmax,
    sigmoid,
    softmax,
)

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
WEIGHTS, ARCH = Stage(0.5, "weights"), Stage(0.5, "logits")
DRAWS = 4000


@pytest.mark.parametrize("relaxation", [softmax, gumbel, dirichlet, noisy_softmax])
def test_rows_sum_to_one_at_every_stage(relaxation):
    for stage in (EVALUATION, WEIGHTS, ARCH):
        weights = relaxation(LOGITS, stage)
        assert weights.shape == LOGITS.shape
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("relaxation", [softmax, gumbel, dirichlet, sigmoid, noisy_softmax])
def test_evaluation_draws_nothing_and_removed_operations_weigh_nothing(relaxation):
    before = torch.get_rng_state()
    removed = LOGITS.clone()
    removed[0, 1] = -torch.inf
    weights = relaxation(removed, EVALUATION)
    assert torch.equal(torch.get_rng_state(), before)
    assert weights[0, 1] < 1e-5
    assert weights.isfinite().all()


def test_gumbel_draws_one_operation_as_often_as_its_softmax():
    torch.manual_seed(0)
    for share in (0.0, 0.9):  # whatever the temperature
        drawn = torch.stack([gumbel(LOGITS, Stage(share, "weights")) for _ in range(DRAWS)])
        assert (drawn.max(-1).values == 1).all()
        assert (drawn.sum(-1) == 1).all()
        torch.testing.assert_close(drawn.mean(0), LOGITS.softmax(-1), atol=0.03, rtol=0)


def test_gumbel_softens_backward_as_the_temperature_says():
    """The gradient is that of the soft form: nearly flat when hot, sharp when cold."""
    sizes = []
    for share in (0.0, 1.0):
        torch.manual_seed(0)
        logits = LOGITS.clone().requires_grad_()
        gumbel(logits, Stage(share, "logits"))[:, 0].sum().backward()
        sizes.append(float(logits.grad.abs().sum()))
    assert sizes[0] < 0.2
    assert sizes[0] != sizes[1]


def test_dirichlet_scatters_around_its_mean_and_lets_gradients_through():
    torch.manual_seed(0)
    concentration = torch.nn.functional.elu(LOGITS) + 1
    drawn = torch.stack([dirichlet(LOGITS, ARCH) for _ in range(DRAWS)])
    mean = concentration / concentration.sum(-1, keepdim=True)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(dirichlet(LOGITS, EVALUATION), mean, atol=1e-5, rtol=0)
    logits = LOGITS.clone().requires_grad_()
    dirichlet(logits, ARCH)[0, 2].backward()
    assert logits.grad[0].abs().sum() > 0


def test_noise_is_for_weights_alone_and_grows():
    flat = torch.zeros(500, 4, dtype=torch.float64)
    assert torch.equal(noisy_softmax(flat, ARCH), flat.softmax(-1))
    torch.manual_seed(0)
    early, late = ((noisy_softmax(flat, Stage(share, "weights")) - 0.25).abs().max() for share in (0.0, 1.0))
    assert 0.5 * LEAST_NOISE < early < 2.1 * LEAST_NOISE  # noise and the sum that it changes
    assert late > 0.5 * MOST_NOISE
