"""The dominant eigenvalue against numpy's, of a quadratic and of a function whose Hessian autograd gives."""

import numpy as np
import pytest
import torch

from models.search.hessian import dominant_eigenvalue


def found(loss, logits, iterations):
    def gradients():
        return list(torch.autograd.grad(loss(), logits))

    return dominant_eigenvalue(gradients, logits, iterations, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sign", [1, -1])
def test_of_a_quadratic(sign):
    torch.manual_seed(0)
    half = torch.randn(5, 5, dtype=torch.float64)
    matrix = sign * half @ half.T
    logits = [torch.randn(2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)]
    logits = [p.requires_grad_() for p in logits]
    before = [p.detach().clone() for p in logits]

    def loss():
        v = torch.cat(logits)
        return 0.5 * v @ matrix @ v

    values = np.linalg.eigvalsh(matrix.numpy())
    assert found(loss, logits, 200) == pytest.approx(values[np.abs(values).argmax()], rel=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, logits, strict=True))


def test_of_a_curved_function_against_autograd():
    torch.manual_seed(1)
    x, logit = torch.randn(7, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64, requires_grad=True)

    def loss_of(a):
        return torch.logsumexp(x @ a, dim=0)

    hessian = torch.autograd.functional.hessian(loss_of, logit.detach())
    largest = float(torch.linalg.eigvalsh(hessian).abs().max())
    assert found(lambda: loss_of(logit), [logit], 100) == pytest.approx(largest, rel=1e-3)


def test_a_flat_loss_has_none():
    logit = torch.zeros(3, requires_grad=True)
    assert found(lambda: (logit * 0).sum(), [logit], 5) == 0.0
