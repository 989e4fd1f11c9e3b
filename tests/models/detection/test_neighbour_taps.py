"""Taps of neighbouring levels: which, in which order, how resized."""

import pytest
import torch
from torch.nn import functional as F

from models.detection.neighbour_taps import pooled, resized, with_neighbours
from models.search.fusion_cells.choices import input_names, nearest_levels, num_neighbours

SIZES = [(8, 10), (4, 5), (2, 3)]
TAPS = ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2")


def test_nearest_levels_are_the_finer_first():
    assert [nearest_levels(level, 4, 2) for level in range(4)] == [[1, 2], [0, 2], [1, 3], [2, 1]]
    assert [num_neighbours("fusion_v2", n) for n in (1, 2, 3, 5)] == [0, 1, 2, 2]
    assert num_neighbours("fusion_v1", 5) == 0


def test_every_level_gets_the_last_taps_of_its_neighbours():
    levels = [torch.randn(4, 2, 8, *size) for size in SIZES]
    whole = with_neighbours(levels, 2, 2)
    assert input_names("fusion_v2", TAPS, 3)[4:] == ("thermal/near1", "rgb/near1", "thermal/near2", "rgb/near2")
    for level, (own, taps) in enumerate(zip(levels, whole, strict=True)):
        assert len(taps) == 8
        assert all(torch.equal(a, b) for a, b in zip(taps, own))
        for n, other in enumerate(nearest_levels(level, 3, 2)):
            for stream, last in enumerate((1, 3)):
                assert torch.equal(taps[4 + 2 * n + stream], resized(levels[other][last], own.shape[-2:]))
    lists = with_neighbours([list(level) for level in levels], 2, 2)
    assert all(torch.equal(a, b) for one, other in zip(lists, whole) for a, b in zip(one, other, strict=True))


def test_own_taps_are_not_copied_and_neighbours_keep_channels_last():
    levels = [[t.to(memory_format=torch.channels_last) for t in torch.randn(4, 2, 8, *size)] for size in SIZES]
    for own, taps in zip(levels, with_neighbours(levels, 2, 2), strict=True):
        assert all(a is b for a, b in zip(taps, own))
        assert all(t.is_contiguous(memory_format=torch.channels_last) for t in taps)


@pytest.mark.parametrize("size", [(4, 5), (3, 4), (7, 9), (1, 1)])
def test_pooling_in_steps_is_adaptive_pooling(size):
    fmap = torch.randn(2, 8, 8, 10)
    assert torch.equal(pooled(fmap, size), F.adaptive_max_pool2d(fmap, size))


def test_finer_maps_come_down_by_maxima_and_coarser_ones_up_by_repetition():
    fine, coarse = torch.randn(2, 8, 8, 10), torch.randn(2, 8, 4, 5)
    torch.testing.assert_close(resized(fine, (4, 5)), F.max_pool2d(fine, 2))
    torch.testing.assert_close(resized(coarse, (8, 10)), coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert resized(coarse, (4, 5)) is coarse
