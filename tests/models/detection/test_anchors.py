"""Anchors and level sizes against plain loops."""

import math

import pytest
import torch

from models.detection.anchors import NUM_ANCHORS, level_sizes, make_anchors


def loop_sizes(image_size, num_levels):
    height, width = image_size
    sizes = []
    for level in range(1, 3 + num_levels):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        if level >= 3:
            sizes.append((height, width))
    return sizes


@pytest.mark.parametrize("image_size", [(97, 131), (64, 64), (1, 3), (768, 768), (513, 640)])
@pytest.mark.parametrize("num_levels", [3, 5, 6])
def test_level_sizes(image_size, num_levels):
    assert level_sizes(image_size, num_levels) == loop_sizes(image_size, num_levels)


@pytest.mark.parametrize("image_size", [(64, 96), (97, 131)])
@pytest.mark.parametrize("num_levels", [3, 5])
def test_make_anchors(image_size, num_levels):
    expected = []
    for rows, columns in loop_sizes(image_size, num_levels):
        stride_y, stride_x = image_size[0] / rows, image_size[1] / columns
        for row in range(rows):
            for column in range(columns):
                for octave in (0, 1 / 3, 2 / 3):
                    for ratio in (1, 2, 0.5):
                        width = 4 * stride_x * 2**octave * math.sqrt(ratio)
                        height = 4 * stride_y * 2**octave / math.sqrt(ratio)
                        x, y = (column + 0.5) * stride_x, (row + 0.5) * stride_y
                        expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    anchors = make_anchors(image_size, num_levels, 4)
    assert anchors.dtype == torch.float32
    assert anchors.shape == (NUM_ANCHORS * sum(r * c for r, c in level_sizes(image_size, num_levels)), 4)
    torch.testing.assert_close(anchors, torch.tensor(expected))
