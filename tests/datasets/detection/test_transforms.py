"""Letterbox and augmentation: boxes stay on their objects, in both modalities."""

import pytest
import torch
from torchvision.ops import box_area, clip_boxes_to_image
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes

from datasets.detection.transforms import MIN_SIDE_PX, MIN_VISIBLE, DetectionTransform, fill_from_mean
from utils.errors import UserError

FILL = {"rgb": [10, 20, 30], "thermal": [15]}
HEIGHT, WIDTH = 120, 160
BOX = [30.0, 20.0, 90.0, 60.0]  # off the middle, or a flip of the image alone would go unnoticed
EMPTY = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def make_pair() -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Draw one bright rectangle, brighter in its left half, on black, at the same place in both modalities."""
    rgb = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    rgb[:, 20:60, 30:90] = 200
    rgb[:, 20:60, 30:60] = 250
    return pair(rgb, rgb[:1].clone()), torch.tensor([BOX]), torch.tensor([1])


def pair(rgb: torch.Tensor, thermal: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"rgb": rgb, "thermal": thermal}


def bright_box(image: torch.Tensor) -> list[float]:
    rows, columns = (image.amin(0) > 120).nonzero().unbind(1)
    if len(rows) == 0:
        return [0, 0, 0, 0]
    return [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]


def area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


@pytest.mark.parametrize("image_size", [(96, 96), (64, 128), (180, 240)])
def test_boxes_stay_on_objects_in_both_modalities(image_size):
    transform = DetectionTransform(image_size, FILL, train=True, hflip=0.5, scale_jitter=(0.4, 2.5))
    kept = flipped = 0
    for seed in range(50):
        torch.manual_seed(seed)
        sample = transform(*make_pair())
        seen = {modality: bright_box(sample["images"][modality]) for modality in ("rgb", "thermal")}
        assert seen["rgb"] == seen["thermal"]
        share = area(seen["rgb"]) / (area(BOX) * sample["scale"] ** 2)
        if len(sample["boxes_xyxy"]):
            kept += 1
            assert share > 0.8 * MIN_VISIBLE  # pixels are counted, so 0.8 and 1.2
            box = sample["boxes_xyxy"][0]
            torch.testing.assert_close(box, torch.tensor(seen["rgb"]).float(), atol=1.5, rtol=0)
            assert (box[:2] >= 0).all()
            assert box[2] <= image_size[1]
            assert box[3] <= image_size[0]
            x1, y1, x2, y2 = seen["rgb"]
            row = sample["images"]["thermal"][0, (y1 + y2) // 2]
            flipped += bool(row[x1 + 1] < row[x2 - 2])
        else:
            assert share < 1.2 * MIN_VISIBLE
    assert kept > 25
    assert flipped > 5


def test_photometry_is_drawn_per_modality_and_leaves_boxes_and_fill():
    plain = DetectionTransform((200, 160), FILL, train=True, hflip=0.0)
    transform = DetectionTransform((200, 160), FILL, train=True, hflip=0.0, photometric=0.5)
    ratios = []
    for seed in range(10):
        torch.manual_seed(seed)
        sample = transform(*make_pair())
        assert torch.equal(sample["boxes_xyxy"], plain(*make_pair())["boxes_xyxy"])
        assert torch.equal(sample["images"]["rgb"][:, -1, -1], torch.tensor(FILL["rgb"]))
        ratios.append((sample["images"]["rgb"].float().mean() / sample["images"]["thermal"].float().mean()).item())
    assert max(ratios) > 1.2 * min(ratios)


def test_test_transform_is_a_letterbox_at_the_top_left():
    sample = DetectionTransform((64, 96), FILL, train=False, hflip=1.0, scale_jitter=(2, 2), photometric=1.0)(
        *make_pair()
    )
    assert sample["scale"] == 64 / 120
    assert (sample["images"]["rgb"][:, :, 86:] == torch.tensor(FILL["rgb"])[:, None, None]).all()
    assert (sample["images"]["thermal"][:, :, 86:] == FILL["thermal"][0]).all()
    assert (sample["images"]["thermal"][:, :, :85] != FILL["thermal"][0]).any(0).all()
    torch.testing.assert_close(sample["boxes_xyxy"][0], torch.tensor(BOX) * sample["scale"])


@pytest.mark.parametrize("size", [(512, 640), (256, 476), (271, 461), (1024, 1280), (33, 701)])
@pytest.mark.parametrize("image_size", [(512, 640), (256, 320), (512, 512), (100, 90)])
def test_way_back_to_original_pixels(size, image_size):
    rgb, thermal = torch.zeros(3, *size, dtype=torch.uint8), torch.zeros(1, *size, dtype=torch.uint8)
    box = torch.tensor([[3.0, 5.0, size[1], size[0]]])
    sample = DetectionTransform(image_size, FILL, train=False)(pair(rgb, thermal), box, torch.tensor([0]))
    assert sample["images"]["rgb"].shape == (3, *image_size)
    torch.testing.assert_close(sample["boxes_xyxy"] / sample["scale"], box, atol=0.01, rtol=0)


def test_shrinking_averages():
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::4] = 200
    sample = DetectionTransform((16, 16), FILL, train=False)(pair(stripes, stripes[:1]), *EMPTY)
    assert (sample["images"]["rgb"][:, 1:-1, 1:-1].int() - 50).abs().max() < 20


@pytest.mark.parametrize("size", [(512, 640), (37, 53), (3, 5), (1, 1), (130, 64)])
@pytest.mark.parametrize("image_size", [(256, 256), (61, 77), (64, 40), (205, 2)])
def test_thermal_is_resized_like_rgb(size, image_size):
    """They take different ways; torchvision's is the reference of both."""
    thermal = torch.randint(256, (1, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform = DetectionTransform(image_size, FILL, train=False)
    sample = transform(pair(thermal.expand(3, -1, -1).contiguous(), thermal), *EMPTY)
    height, width = resized = transform.draw(size).resized
    expected = F.resize(thermal, list(resized), antialias=True)
    assert torch.equal(sample["images"]["thermal"][:, :height, :width], expected)
    assert all(torch.equal(channel, expected[0]) for channel in sample["images"]["rgb"][:, :height, :width])


def test_a_few_scales_around_the_centre():
    """Each as often, with the draws of a jitter: the same flips; at factor 1 as in testing."""
    scales, size = (0.5, 1.0, 1.6), (HEIGHT, WIDTH)
    transform = DetectionTransform((60, 90), FILL, train=True, scales=scales)
    jitter = DetectionTransform((60, 90), FILL, train=True, scale_jitter=(0.5, 1.6))
    placements = []
    for seed in range(150):
        torch.manual_seed(seed)
        placements.append(transform.draw(size))
        torch.manual_seed(seed)
        assert jitter.draw(size).flip == placements[-1].flip
    expected = {0.5: ((30, 40), 15, 25), 1.0: ((60, 80), 0, 0), 1.6: ((96, 128), -18, -19)}
    assert {(p.factor, p.flip): (p.resized, p.top, p.left) for p in placements} == {
        (factor, flip): place for factor, place in expected.items() for flip in (False, True)
    }
    assert all(30 < sum(p.factor == scale for p in placements) < 70 for scale in scales)


def test_draw_gives_the_placement_of_the_sample_drawn_from_the_same_seed():
    transform = DetectionTransform((60, 80), FILL, train=True, scale_jitter=(0.5, 2.0), photometric=0.3)
    placements = set()
    for seed in range(20):
        torch.manual_seed(seed)
        sample = transform(*make_pair())
        torch.manual_seed(seed)
        placement = transform.draw((HEIGHT, WIDTH))
        targets = transform.targets(*make_pair()[1:], (HEIGHT, WIDTH), placement)
        assert torch.equal(targets["boxes_xyxy"], sample["boxes_xyxy"])
        assert torch.equal(targets["labels"], sample["labels"])
        assert (placement.scale, placement.flip) == (sample["scale"], sample["flip"])
        placements.add(placement)
    assert len(placements) == 20


def test_boxes_move_as_with_torchvision():
    torch.manual_seed(0)
    size, image_size = (HEIGHT, WIDTH), (60, 80)
    corners = torch.rand(50, 2, 2).sort(dim=1).values * torch.tensor([WIDTH, HEIGHT])
    boxes = corners.reshape(-1, 4)
    transform = DetectionTransform(image_size, FILL, train=True, scale_jitter=(0.3, 3.0))
    for _ in range(20):
        at = transform.draw(size)
        expected = BoundingBoxes(boxes, format="XYXY", canvas_size=size)
        expected = F.horizontal_flip(expected) if at.flip else expected
        expected = expected.as_subclass(torch.Tensor) * at.scale + torch.tensor([at.left, at.top, at.left, at.top])
        visible = clip_boxes_to_image(expected, image_size)
        keep = box_area(visible) >= MIN_VISIBLE * box_area(expected)
        keep &= (visible[:, 2:] - visible[:, :2] >= MIN_SIDE_PX).all(1)
        moved = transform.targets(boxes, torch.arange(50), size, at)
        assert torch.equal(moved["boxes_xyxy"], visible[keep])
        assert torch.equal(moved["labels"], keep.nonzero()[:, 0])


def test_same_size_is_unchanged():
    images, boxes, labels = make_pair()
    sample = DetectionTransform((HEIGHT, WIDTH), FILL, train=False)(images, boxes, labels)
    assert torch.equal(sample["images"]["rgb"], images["rgb"])
    assert torch.equal(sample["boxes_xyxy"], boxes)
    assert sample["scale"] == 1


def test_labels_follow_their_boxes():
    images, _, _ = make_pair()
    corners = torch.tensor([[0.0, 0, 20, 20], [140, 100, 160, 120], [70, 50, 90, 70], [75, 55, 75.2, 65]])
    transform = DetectionTransform((60, 80), FILL, train=True, hflip=0.0, scale_jitter=(2.0, 2.0))
    for seed in range(20):
        torch.manual_seed(seed)
        sample = transform(images, corners, torch.arange(4))
        labels = sample["labels"].tolist()
        assert len(labels) == len(sample["boxes_xyxy"])
        assert 3 not in labels, "a box less than 1 px wide stayed"
        assert not {0, 1} <= set(labels), "corners 140 px apart cannot both be in 80 px"


def test_image_without_boxes():
    images, _, _ = make_pair()
    for train in (True, False):
        sample = DetectionTransform((64, 64), FILL, train=train, scale_jitter=(0.5, 2.0))(images, *EMPTY)
        assert sample["boxes_xyxy"].shape == (0, 4)
        assert sample["labels"].shape == (0,)


def test_fill_from_mean():
    normalization = {"rgb": ((0.485, 0.456, 0.406), (1, 1, 1)), "thermal": ((0.519,) * 3, (1, 1, 1))}
    assert fill_from_mean(normalization, {"rgb": 3, "thermal": 1}) == {"rgb": [124, 116, 104], "thermal": [132]}
    assert fill_from_mean(normalization, {"rgb": 3}) == {"rgb": [124, 116, 104]}


def test_a_single_image_gets_the_draws_of_a_pair():
    transform = DetectionTransform((60, 80), FILL, train=True, scale_jitter=(0.5, 2.0), photometric=0.3)
    for seed in range(5):
        images, boxes, labels = make_pair()
        torch.manual_seed(seed)
        sample = transform(images, boxes, labels)
        torch.manual_seed(seed)
        single = transform({"rgb": images["rgb"]}, boxes, labels)
        assert single["images"].keys() == {"rgb"}
        assert torch.equal(single["images"]["rgb"], sample["images"]["rgb"])  # photometry of RGB is drawn first
        assert torch.equal(single["boxes_xyxy"], sample["boxes_xyxy"])


@pytest.mark.parametrize(
    ("name", "value"), [("hflip", 1.5), ("scale_jitter", (2.0, 1.0)), ("scale_jitter", (0, 1)), ("photometric", -0.1)]
)
def test_wrong_options(name, value):
    with pytest.raises(UserError, match=name):
        DetectionTransform((64, 64), FILL, train=True, **{name: value})
