"""Boxes that own an anchor: the nearest centres give what all anchors give."""

import pytest
import torch
from torchvision.ops import box_iou

from models.detection.anchor_fit import SCALES, anchor_shares, best_ious, better_scale
from models.detection.anchors import make_anchors


def random_boxes(num: int, size: tuple[int, int]) -> torch.Tensor:
    """Draw boxes of all sizes inside an image, some at its borders and some centred between anchors."""
    draws = torch.rand(num, 4, generator=torch.Generator().manual_seed(0))
    width_height = torch.tensor([size[1], size[0]])
    sides = (width_height * draws[:, :2] ** 3).clamp(min=1)
    corners = (width_height - sides) * draws[:, 2:]
    corners[: num // 4] = corners[: num // 4].round()
    corners[num // 4 : num // 2, 0] = 0
    between = slice(num // 2, 3 * num // 4)
    corners[between] = (corners[between] / 8).floor() * 8 - sides[between] / 2
    corners = torch.minimum(corners.clamp(min=0), width_height - sides)
    return torch.cat([corners, corners + sides], dim=1)


@pytest.mark.parametrize("size", [(128, 128), (97, 160)])
@pytest.mark.parametrize("scale", [1.0, 2.5, 4.0])
def test_the_nearest_centres_give_what_all_anchors_give(size, scale):
    boxes = random_boxes(200, size)
    for num_levels in (1, 3, 5):
        every = box_iou(boxes, make_anchors(size, num_levels, scale)).amax(dim=1)
        found = best_ious(boxes, size, num_levels, scale)
        assert found.shape == (200,)
        torch.testing.assert_close(found, every, rtol=1e-5, atol=1e-6)


def test_shares_count_the_boxes_from_iou_a_half_on():
    boxes = random_boxes(300, (128, 160))
    shares = anchor_shares(boxes, (128, 160), 4)
    assert tuple(shares) == SCALES
    for scale, share in shares.items():
        owned = box_iou(boxes, make_anchors((128, 160), 4, scale)).amax(dim=1) >= 0.5
        assert share == pytest.approx(owned.double().mean().item())
    anchor = make_anchors((128, 160), 4, 4.0)[400:401]
    assert anchor_shares(anchor, (128, 160), 4, (4.0,)) == {4.0: 1.0}


def test_another_scale_is_named_only_where_it_is_worth_it():
    assert better_scale({2.0: 0.900, 4.0: 0.895}, present=4.0) is None
    assert better_scale({2.0: 0.910, 4.0: 0.895}, present=4.0) == 2.0
    assert better_scale({2.0: 0.8, 4.0: 0.9}, present=4.0) is None
