"""Points and their targets against a brute-force loop, and the cases on the border."""

import math

import pytest
import torch

from models.detection.heads.fcos_targets import assign_points, make_points, match_points

IMAGE_SIZE = (400, 520)
POINTS = make_points(IMAGE_SIZE, 5).double()
RANGES = {8: (-1, 64), 16: (64, 128), 32: (128, 256), 64: (256, 512), 128: (512, math.inf)}


def random_boxes(count: int) -> torch.Tensor:
    """Boxes with corners at multiples of 4 px: many sides, centres and distances lie on a border."""
    first, sides = torch.randint(0, 40, (count, 2)), (1 + 99 * torch.rand(count, 2) ** 2).long()
    return (torch.cat([first, first + sides], dim=1) * 4).double()


def loop_match(boxes: list[list[float]], radius: float | None) -> list[int]:
    owned = []
    for x, y, stride in POINTS.tolist():
        best, smallest = -1, math.inf
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            inside = x1 < x < x2 and y1 < y < y2
            shift = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            low, high = RANGES[stride]
            in_range = low <= max(x - x1, y - y1, x2 - x, y2 - y) <= high
            area = (x2 - x1) * (y2 - y1)
            if inside and in_range and (radius is None or shift < radius * stride) and area < smallest:
                best, smallest = number, area
        owned.append(best)
    return owned


@pytest.mark.parametrize("radius", [1.5, None])
def test_matching_equals_the_loop(radius):
    """The second image has fewer boxes, the third none; some boxes stand there twice."""
    torch.manual_seed(0)
    boxes = torch.stack([random_boxes(20) for _ in range(3)])
    boxes[:, 10:] = boxes[:, :10]
    exists = torch.arange(20) < torch.tensor([[20], [7], [0]])
    owned = match_points(POINTS, boxes, exists, radius)
    expected = [loop_match(boxes[image, exists[image]].tolist(), radius) for image in range(3)]
    assert owned.tolist() == expected
    levels = POINTS[owned[0] >= 0, 2].unique().tolist()
    assert levels == [8, 16, 32, 64]


def test_targets_against_their_definition():
    torch.manual_seed(1)
    boxes, labels = random_boxes(9)[None], torch.arange(9)[None]
    targets = assign_points(POINTS, boxes, labels)
    owned = match_points(POINTS, boxes, labels >= 0, 1.5)
    for point, number in enumerate(owned[0].tolist()):
        assert targets.classes[0, point] == number
        if number < 0:
            assert targets.centerness[0, point] == 0
            assert (targets.distances[0, point] == 1).all()
            continue
        (x, y, stride), (x1, y1, x2, y2) = POINTS[point].tolist(), boxes[0, number].tolist()
        sides = x - x1, y - y1, x2 - x, y2 - y
        across, down = (min(sides[i::2]) / max(sides[i::2]) for i in (0, 1))
        assert targets.distances[0, point].tolist() == pytest.approx([side / stride for side in sides])
        assert targets.centerness[0, point].item() == pytest.approx(math.sqrt(across * down))


def points_of(box: list[float], level: int, radius: float | None = None) -> list[list[float]]:
    owned = match_points(POINTS, torch.tensor([[box]], dtype=torch.float64), torch.ones(1, 1).bool(), radius)[0]
    return POINTS[(owned == 0) & (POINTS[:, 2] == 2**level), :2].tolist()


def test_a_box_on_the_end_of_two_ranges_learns_on_both_levels():
    """From the point (72, 72) of P4 and from (68, 68) of P3 the farthest side is 64 px away."""
    assert [72, 72] in points_of([68, 68, 136, 136], 4)
    assert [68, 68] in points_of([64, 64, 132, 132], 3)


def test_a_point_on_a_side_or_exactly_a_radius_away_is_background():
    assert points_of([4, 4, 20, 20], 3) == [[12, 12]]  # 4 and 20 are points of P3
    centres = points_of([0, 0, 48, 48], 3, radius=1.5)  # the centre is 24; 12 and 36 are 1.5 strides away
    assert centres == [[20, 20], [28, 20], [20, 28], [28, 28]]


def test_of_equal_areas_the_first_box_wins_and_else_the_smallest():
    boxes = torch.tensor([[[40.0, 40, 80, 62], [49, 30, 71, 70], [40, 40, 80, 63]]])
    owned = match_points(POINTS.float(), boxes, torch.ones(1, 3).bool(), None)
    assert set(owned.unique().tolist()) == {-1, 0, 1}
    both = ((POINTS[:, :2] - torch.tensor([60.0, 51])).abs() < 11).all(1) & (POINTS[:, 2] == 8)
    assert (owned[0, both] == 0).all()
    flipped = match_points(POINTS.float(), boxes.flip(1), torch.ones(1, 3).bool(), None)
    assert (flipped[0, both] == 1).all()


def test_a_batch_equals_its_images():
    torch.manual_seed(2)
    boxes, labels = torch.stack([random_boxes(6) for _ in range(3)]), torch.randint(-1, 3, (3, 6))
    whole = assign_points(POINTS, boxes, labels)
    for image in range(3):
        single = assign_points(POINTS, boxes[image : image + 1], labels[image : image + 1])
        assert all(torch.equal(a[image : image + 1], b) for a, b in zip(whole, single, strict=True))


def test_types_and_shapes_of_an_image_without_boxes():
    targets = assign_points(POINTS.float(), torch.zeros(1, 1, 4), torch.full((1, 1), -1))
    assert targets.classes.dtype == torch.int64
    assert targets.distances.dtype == targets.centerness.dtype == torch.float32
    assert targets.distances.shape == (1, len(POINTS), 4)
    assert (targets.classes == -1).all()
    assert not targets.centerness.any()
