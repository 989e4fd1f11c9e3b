"""FCOS against torchvision's, where both mean the same. What differs: docs/differences.md."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import generalized_box_iou_loss

from models.detection.anchors import level_sizes
from models.detection.heads.fcos import FCOSHead, PointOutput
from models.detection.heads.fcos_losses import BOX_LOSSES

IMAGE_SIZE = (128, 256)  # whose levels divide it, where torchvision's strides are those of the levels
SIZES = level_sizes(IMAGE_SIZE, 5)
STRIDES = [8, 16, 32, 64, 128]


@pytest.fixture(scope="module")
def theirs() -> FCOS:
    backbone = nn.Identity()
    backbone.out_channels = 32
    anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * 5)
    return FCOS(backbone, 3, anchor_generator=anchors, score_thresh=0.0).eval()


@pytest.fixture(scope="module")
def anchors(theirs) -> torch.Tensor:
    images = ImageList(torch.zeros(1, 3, *IMAGE_SIZE), [IMAGE_SIZE])
    return theirs.anchor_generator(images, [torch.zeros(1, 1, *size) for size in SIZES])[0]


def random_output(num_images: int = 2) -> PointOutput:
    """Class probabilities that are all above our threshold; theirs asks for the score."""
    torch.manual_seed(0)
    logits = [3 * torch.randn(num_images, 3, *size).abs() - 2 for size in SIZES]
    distances = [4 * torch.rand(num_images, 4, *size) for size in SIZES]
    return PointOutput(logits, distances, [torch.randn(num_images, 1, *size) for size in SIZES])


def test_points_are_theirs_moved_by_half_a_stride(anchors):
    points = FCOSHead(8, 3).locations(IMAGE_SIZE)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert torch.equal(points[:, :2], centres + points[:, 2:] / 2)
    assert torch.equal(points[:, 2], anchors[:, 2] - anchors[:, 0])


def test_decoding(theirs, anchors):
    head = FCOSHead(8, 3)
    points, values = head.locations(IMAGE_SIZE), torch.rand(len(anchors), 5) * 9
    moved = anchors + points[:, 2:] / 2
    torch.testing.assert_close(head.decode(values, points), theirs.box_coder.decode(values[:, :4], moved))


def test_detections(theirs, anchors):
    """Best 1,000 of each level, root of the scores' product, clipping, suppression, best 100."""
    head, output = FCOSHead(8, 3), random_output()
    logits, values = head.flatten(output)
    points = head.locations(IMAGE_SIZE)
    lengths = [rows * columns for rows, columns in SIZES]
    parts = {"cls_logits": logits, "bbox_regression": values[..., :4], "bbox_ctrness": values[..., 4:]}
    levels = {name: list(part.split(lengths, dim=1)) for name, part in parts.items()}
    moved = list((anchors + points[:, 2:] / 2).split(lengths))
    expected = theirs.postprocess_detections(levels, [moved] * 2, [IMAGE_SIZE] * 2)
    batch = {"image_size": IMAGE_SIZE, "scales": torch.ones(2), "original_sizes": torch.tensor([IMAGE_SIZE] * 2)}
    for found, other in zip(head.detect(output, batch), expected, strict=True):
        assert len(found["scores"]) == 100
        torch.testing.assert_close(found["boxes_xyxy"], other["boxes"])
        torch.testing.assert_close(found["scores"], other["scores"])
        assert torch.equal(found["labels"], other["labels"])


def test_giou_loss_of_boxes_beside_which_the_added_square_is_nothing():
    torch.manual_seed(0)
    ours, targets = (1e3 * (0.1 + torch.rand(50, 4, dtype=torch.float64)) for _ in range(2))
    boxes = [torch.cat([-x[:, :2], x[:, 2:]], dim=1) for x in (ours, targets)]
    expected = generalized_box_iou_loss(*boxes)
    torch.testing.assert_close(BOX_LOSSES["giou"](ours, targets), expected, rtol=1e-5, atol=0)
