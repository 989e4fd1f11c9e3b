"""Hand-made fusions: which taps they read, and what widening adds."""

import pytest
import torch
from torch import nn

from models.detection.baselines import BASELINES, FUSIONS
from models.detection.fusions import baseline_fusions


def one(name: str, channels: int = 8, widen: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    return baseline_fusions(name, channels, 1, widen)[0].eval()


def test_the_last_tap_of_each_stream():
    taps = [torch.full((1, 8, 2, 2), float(i)) for i in range(6)]  # thermal 0 1 2, rgb 3 4 5
    assert one("sum")(taps).unique().tolist() == [7.0]
    assert one("mean")(taps).unique().tolist() == [3.5]
    assert one("thermal")(taps[:3]).unique().tolist() == one("early")(taps[:3]).unique().tolist() == [2.0]


def test_rgb_twice_is_concat_conv_of_one_tap():
    """The same weights and the same layer as concat_conv, where both streams end alike; earlier taps do not matter."""
    taps = list(torch.randn(3, 2, 8, 4, 4))
    twice, both = one("rgb_twice"), one("concat_conv")
    assert twice.state_dict().keys() == both.state_dict().keys()
    assert torch.equal(twice(taps), both([*torch.randn(2, 2, 8, 4, 4), taps[-1], *taps]))
    assert torch.equal(twice(taps), twice([*torch.randn(2, 2, 8, 4, 4), taps[-1]]))
    first, second = both.op.conv.weight.split(8, dim=1)
    by_hand = nn.functional.conv2d(taps[-1], first + second, both.op.conv.bias)
    torch.testing.assert_close(twice(taps), by_hand, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_widened_fusion_starts_as_the_plain_one_and_learns(name):
    taps = list(torch.randn(4, 2, 8, 4, 4))
    plain, wide = one(name), one(name, widen=5)
    wide.fusion.load_state_dict(plain.state_dict())
    assert torch.equal(wide(taps), plain(taps))
    with torch.no_grad():
        wide.expand.weight.normal_()
        wide.expand.bias.normal_()
        wide.norm.running_mean.normal_()
        y = plain(taps)
        hidden = torch.einsum("hc,bcij->bhij", wide.reduce.weight[:, :, 0, 0], y)
        hidden = (hidden - wide.norm.running_mean.view(1, -1, 1, 1)) / (1 + wide.norm.eps) ** 0.5
        by_hand = y + torch.einsum("ch,bhij->bcij", wide.expand.weight[:, :, 0, 0], hidden.relu())
        by_hand += wide.expand.bias.view(1, -1, 1, 1)
        torch.testing.assert_close(wide(taps), by_hand, rtol=1e-4, atol=1e-4)
    added = sum(p.numel() for p in wide.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == 5 * (2 * 8 + 2) + 8


def test_only_fusions_of_both_modalities_are_to_be_widened():
    assert set(BASELINES) - set(FUSIONS) == {"thermal", "rgb", "early", "rgb_twice"}
