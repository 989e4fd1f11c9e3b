"""Corrupted pairs: each version is the plain sample of the corrupted pictures."""

import pytest
import torch

from datasets.detection.corruptions import CorruptedImages, corrupt, severities
from datasets.detection.dataset import DetectionDataset, load_images
from datasets.detection.opening import open_data_set
from datasets.detection.sources import CHANNELS
from datasets.detection.transforms import DetectionTransform


@pytest.fixture
def plain(tiny_flir) -> DetectionDataset:
    """The test pairs, letterboxed."""
    data = open_data_set(tiny_flir)
    return DetectionDataset(data.records["test"], DetectionTransform((48, 96), data.fill, False), data.channels)


def of_images(plain: DetectionDataset, images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return plain.transform(images, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))["images"]


@pytest.mark.parametrize("kind", ["noise", "shift", "black"])
def test_versions_are_samples_of_corrupted_pictures(plain, kind):
    corrupted = CorruptedImages(plain, kind, seed=7)
    for key in range(len(plain)):
        sample, wanted = corrupted[key, 0], plain[key, 0]
        assert tuple(sample["versions"]) == (0, *severities(kind))
        for modality in ("rgb", "thermal"):
            assert torch.equal(sample["versions"][0][modality], wanted["images"][modality])
        for name in ("boxes_xyxy", "labels"):
            assert torch.equal(sample[name], wanted[name])
        record = plain.records[key]
        for severity in severities(kind):
            images = load_images(record, CHANNELS)
            made = of_images(plain, {m: corrupt(x, kind, severity, 7, record.image_id) for m, x in images.items()})
            assert all(torch.equal(sample["versions"][severity][m], made[m]) for m in ("rgb", "thermal"))


def test_a_frozen_sensor_shows_the_first_picture(plain):
    frozen, first = CorruptedImages(plain, "frozen", seed=7), plain[0]
    for key in range(len(plain)):
        version = frozen[key, 0]["versions"][5]
        assert all(torch.equal(version[m], first["images"][m]) for m in ("rgb", "thermal"))
    assert not torch.equal(plain[1]["images"]["rgb"], first["images"]["rgb"])
