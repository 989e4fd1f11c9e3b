"""Images of one channel are resized as torchvision resizes them, on processors with and without its byte kernel."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from datasets import images
from datasets.images import resize_grey


@pytest.mark.parametrize("kernels", [images.BYTE_KERNELS, ()])
@pytest.mark.parametrize("size", [(512, 640), (37, 53), (3, 5), (1, 1), (512, 7)])
def test_as_torchvision(size, kernels, monkeypatch):
    monkeypatch.setattr(images, "BYTE_KERNELS", kernels)
    image = torch.randint(256, (1, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for wanted in ([205, 256], [614, 768], [1, 1], [64, 41], list(size)):
        assert torch.equal(resize_grey(image, wanted), F.resize(image, wanted, antialias=True))
