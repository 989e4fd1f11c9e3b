"""Every entry of the operation tables: shape kept, batch independent, gradients to both inputs, any map size."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.search.fusion_cells.choices import MAPS, SEQUENCES
from models.search.fusion_cells.layers import Features, conv_of_concat
from models.search.fusion_cells.operations import FUSION_OPS, ConcatConv, ECAAttn, ShuffleAttn, fusion_op

SHAPES = {MAPS: [(2, 32, 6, 5), (2, 48, 3, 4), (3, 20, 2, 1)], SEQUENCES: [(2, 32, 8), (3, 20, 1), (4, 12, 3)]}
CASES = [(rank, name, shape) for rank, ops in FUSION_OPS.items() for name in ops for shape in SHAPES[rank]]


def make(rank: int, name: str, shape: tuple[int, ...]) -> nn.Module:
    return fusion_op(name, Features(rank, shape[1], shape[2] if rank == SEQUENCES else 0))


@pytest.mark.parametrize(("rank", "name", "shape"), CASES)
def test_keeps_shape_and_reaches_both_inputs(rank, name, shape):
    op = make(rank, name, shape)
    for p in op.parameters():
        nn.init.normal_(p)  # some gates start closed
    x, y = (torch.randn(shape, requires_grad=True) for _ in range(2))
    out = op(x, y)
    assert out.shape == shape
    out.square().sum().backward()
    assert all(t.grad.abs().sum() > 0 for t in (x, y, *op.parameters()))


@pytest.mark.parametrize(("rank", "name", "shape"), CASES)
def test_batched_equals_single(rank, name, shape):
    op = make(rank, name, shape).eval()
    x, y = torch.randn(2, *shape)
    single = torch.cat([op(a[None], b[None]) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(op(x, y), single)


@pytest.mark.parametrize(("rank", "name", "shape"), CASES)
def test_one_tensor_as_both_is_folded(rank, name, shape):
    """The supernet gives one tensor twice: values and all gradients are those of two equal ones."""
    op = make(rank, name, shape).double()
    for p in op.parameters():
        nn.init.normal_(p)
    v = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    x, y = (v.detach().clone().requires_grad_() for _ in range(2))
    ends = []
    for inputs in ([v, v], [x, y]):
        torch.manual_seed(0)  # the same is dropped
        out, inputs = op(*inputs), list(dict.fromkeys(inputs))
        grads = torch.autograd.grad(out.square().sum(), [*inputs, *op.parameters()])
        ends.append([out, sum(grads[: len(inputs)]), *grads[len(inputs) :]])
    for folded, plain in zip(*ends, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-9, atol=1e-9)


def test_a_concatenation_of_some_equal_tensors():
    conv = nn.Conv2d(24, 5, 1).double()
    u, s = torch.randn(2, 2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(conv_of_concat(conv, [u, u, s]), conv(torch.cat((u, u, s), dim=1)))
    assert torch.equal(conv_of_concat(conv, [u, s, s.clone()]), conv(torch.cat((u, s, s), dim=1)))


@pytest.mark.parametrize(("channels", "kernel"), [(32, 3), (64, 5), (128, 5), (16, 3), (256, 5)])
def test_eca_kernel_is_odd_and_grows_with_channels(channels, kernel):
    assert ECAAttn(channels).channel_conv.kernel_size == (kernel,)


@pytest.mark.parametrize(("channels", "groups"), [(32, 32), (64, 32), (128, 32), (48, 16), (20, 4), (7, 1)])
def test_shuffle_groups_are_the_largest_power_of_two_that_fits(channels, groups):
    assert ShuffleAttn(channels).groups == groups


def test_shuffle_attention_against_a_loop():
    """One group and channel at a time, as SA-Net's text describes it."""
    channels, op = 64, ShuffleAttn(64).double()
    for p in op.parameters():
        nn.init.normal_(p)
    x, y = torch.randn(2, 3, channels, 4, 5, dtype=torch.float64)
    both, half = torch.cat((x, y), dim=1), channels // op.groups
    gated = torch.empty_like(both)
    for c in range(2 * channels):
        plane, k = both[:, c], c % half
        if (c // half) % 2 == 0:
            mean = plane.mean(dim=(1, 2), keepdim=True)
            gate = op.channel_weight[0, k] * mean + op.channel_bias[0, k]
        else:
            normed = (plane - plane.mean((1, 2), True)) / (
                plane.var((1, 2), unbiased=False, keepdim=True) + 1e-5
            ).sqrt()
            normed = normed * op.norm.weight[k] + op.norm.bias[k]
            gate = op.spatial_weight[0, k] * normed + op.spatial_bias[0, k]
        gated[:, c] = plane * torch.sigmoid(gate)
    order = [i // 2 + (i % 2) * channels for i in range(2 * channels)]  # channels of both halves in turn
    torch.testing.assert_close(op(x, y), op.combine(gated[:, order]))


def test_concat_conv_of_one_tensor_folds():
    """concat(v, v) then a convolution is the convolution with the sum of its two halves."""
    op, v = ConcatConv(8).double(), torch.randn(2, 8, 3, 3, dtype=torch.float64)
    weight = op.conv.weight[:, :8] + op.conv.weight[:, 8:]
    torch.testing.assert_close(op(v, v), F.conv2d(v, weight, op.conv.bias))
