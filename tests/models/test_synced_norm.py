"""Norms over the batch of all ranks; of one rank they are what batch norm is. Of several: tests/test_ranks.py."""

import copy

import pytest
import timm
import torch
from torch import distributed as dist
from torch import nn

from models.synced_norm import SyncedNorm, SyncedNormOfGpu, sync_norms

KINDS = [
    ("cpu", SyncedNorm),
    ("cuda", SyncedNormOfGpu),
]  # both are looked at on a CPU


@pytest.fixture
def group():
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def pair(kind: type[nn.Module], momentum: float | None, device: str = "cpu") -> tuple[nn.Module, nn.Module]:
    """A norm with weights that are not those of the start, and the one in its place."""
    torch.manual_seed(0)
    plain = nn.Sequential(kind(4, momentum=momentum)).double()
    nn.init.normal_(plain[0].weight)
    nn.init.normal_(plain[0].bias)
    synced = copy.deepcopy(plain)
    sync_norms(synced, torch.device(device))
    assert type(synced[0]) is dict(KINDS)[device]
    return plain, synced


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.BatchNorm2d, (3, 4, 5, 6)), (nn.BatchNorm1d, (3, 4, 5)), (nn.BatchNorm1d, (7, 4))]
)
def test_one_rank_is_batch_norm(kind, shape, momentum, group):
    plain, synced = pair(kind, momentum)
    inputs = [torch.randn(shape, dtype=torch.float64).add_(3).requires_grad_() for _ in range(2)]
    for step in range(2):
        x = inputs[step]
        y = x.detach().clone().requires_grad_()
        scale = torch.randn(shape, dtype=torch.float64)
        for norm, value in ((plain, x), (synced, y)):
            (norm(value) * scale).square().sum().backward()
        assert torch.allclose(x.grad, y.grad, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)
    for name, buffer in plain.named_buffers():
        assert torch.allclose(dict(synced.named_buffers())[name], buffer, rtol=1e-12)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_gradients_and_in_evaluation_it_is_batch_norm(device):
    """No group is there to be asked."""
    plain, synced = pair(nn.BatchNorm2d, 0.1, device)
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(synced(x), plain(x))
    assert torch.equal(synced.eval()(x), plain.eval()(x))


@pytest.mark.parametrize(("device", "kind"), KINDS)
def test_a_model_keeps_names_and_values(device, kind):
    """timm's norms, which activate, too."""
    model = timm.create_model("test_efficientnet").eval()
    x, before = torch.randn(2, 3, 64, 64), {name: value.clone() for name, value in model.state_dict().items()}
    expected, shared = model(x), {name: p.data_ptr() for name, p in model.named_parameters()}
    sync_norms(model, torch.device(device))
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(type(norm) is kind for norm in norms)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == shared
    assert torch.equal(model(x), expected)
    sync_norms(model, torch.device(device))
    assert [m for m in model.modules() if type(m) is kind] == norms, "again changes nothing"


def test_half_precision_is_rounded_once(group):
    """The gradients of a channel sum up to 0 but for rounding: here no worse than those of batch norm itself."""
    plain, synced = pair(nn.BatchNorm2d, 0.1)
    plain, synced = plain.float(), synced.float()
    x = (torch.randn(8, 4, 16, 16) + 10).bfloat16()
    weights = torch.randn(8, 4, 16, 16).bfloat16()
    sums = []
    for norm in (plain, synced):
        given = x.clone().requires_grad_()
        (norm(given) * weights).sum().backward()
        assert given.grad.dtype == torch.bfloat16
        sums.append(given.grad.double().sum(dim=(0, 2, 3)).abs().max())
    assert sums[1] <= 2 * sums[0]
