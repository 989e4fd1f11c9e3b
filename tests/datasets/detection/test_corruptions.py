"""Corruptions: every entry of the table keeps the form, repeats, and grows with its severity."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from datasets.detection.corruptions import (
    CONTRAST,
    CORRUPTIONS,
    DEAD_KINDS,
    FOG_GREY,
    GAUSSIAN_BLUR,
    GRADED,
    KINDS,
    REFERENCE_PX,
    corrupt,
    severities,
)

DRAWN = ("noise_only", "noise", "glare", "fog")
GRADES = [kind for kind in CORRUPTIONS if kind not in DEAD_KINDS]
HEIGHT, WIDTH = 112, 140


def picture(channels: int = 3) -> torch.Tensor:
    """Give a picture with an edge, a slope and some grain, far from black and white."""
    values = torch.linspace(60, 140, WIDTH).expand(channels, HEIGHT, WIDTH).clone()
    values[:, 10:30, 20:35] += 60
    values += 10 * torch.rand(values.shape, generator=torch.Generator().manual_seed(0))
    return values.to(torch.uint8)


def change(kind: str, severity: int, channels: int = 3) -> float:
    return (corrupt(picture(channels), kind, severity, 2, "a").float() - picture(channels).float()).abs().mean().item()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_corruption(kind, channels):
    given = picture(channels)
    for severity in severities(kind):
        made = corrupt(given, kind, severity, 2, "a")
        assert (made.shape, made.dtype) == (given.shape, torch.uint8)
        assert torch.equal(given, picture(channels)), "the picture that was given has changed"
        assert torch.equal(made, corrupt(given, kind, severity, 2, "a"))
        others = [corrupt(given, kind, severity, seed, name) for seed, name in ((3, "a"), (2, "b"))]
        assert all(torch.equal(made, other) != (kind in DRAWN) for other in others)
        assert not torch.equal(made, given)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", GRADES)
def test_more_severe_is_further_from_the_picture(kind, channels):
    first, *_, last = severities(kind)
    assert change(kind, last, channels) > 1.5 * change(kind, first, channels)


def test_the_list_of_kinds_is_whole():
    assert set(KINDS) == {*CORRUPTIONS, "frozen"}
    assert {len(severities(kind)) for kind in GRADED} == {5}
    assert severities("shift") == (2, 4, 8, 16)


def test_dead_sensors():
    assert not corrupt(picture(), "black", 5, 2, "a").any()
    noise = corrupt(picture(), "noise_only", 5, 2, "a")
    assert torch.equal(noise, corrupt(torch.zeros_like(noise), "noise_only", 5, 2, "a"))
    assert noise.float().mean() == pytest.approx(127.5, abs=5)
    assert (noise.min(), noise.max()) == (0, 255)


def test_blur_is_torchvisions_in_two_dimensions():
    for severity, sigma in enumerate(GAUSSIAN_BLUR, 1):
        sigma *= HEIGHT / REFERENCE_PX
        side = 2 * round(3 * sigma) + 1
        whole = F.gaussian_blur(picture(), [side, side], [sigma, sigma])
        assert (corrupt(picture(), "blur", severity, 2, "a").int() - whole.int()).abs().max() <= 1


def test_light_moves_as_it_should():
    clean = picture(1).float()
    for severity in severities("fog"):
        dark, bright, foggy = (
            corrupt(picture(1), kind, severity, 2, "a").float() for kind in ("darkness", "glare", "fog")
        )
        assert (dark < clean).all()
        assert (bright >= clean).all()
        assert bright.max() == 255
        assert ((foggy - FOG_GREY).abs() <= (clean - FOG_GREY).abs()).all()
        flat = corrupt(picture(1), "low_contrast", severity, 2, "a").float()
        assert flat.std() == pytest.approx(CONTRAST[severity - 1] * clean.std().item(), rel=0.1)
        assert flat.mean() == pytest.approx(clean.mean().item(), abs=1)


def test_weather_is_the_same_for_both_sensors_and_noise_is_not():
    for kind in DRAWN:
        thermal, rgb = (corrupt(picture(1).expand(n, -1, -1), kind, 5, 2, "a") for n in (1, 3))
        assert torch.equal(thermal, rgb[:1]) == (kind in ("glare", "fog"))


@pytest.mark.parametrize("px", severities("shift"))
def test_shift_moves_to_the_right(px):
    made = corrupt(picture(), "shift", px, 2, "a")
    assert torch.equal(made[..., px:], picture()[..., :-px])
    assert torch.equal(made[..., :px], picture()[..., :1].expand(-1, -1, px))
