"""Corrupted pairs: each version is the plain sample of the corrupted pictures."""

import pytest
import torch

from datasets.detection.corrupted_pairs import CorruptedPairs
from datasets.detection.corruptions import corrupt, severities
from datasets.detection.paired_detection import PairedDetectionDataset, load_pair
from datasets.detection.paired_transforms import PairTransform, fill_from_mean
from datasets.detection.registry import open_data_set


@pytest.fixture
def plain(tiny_flir) -> PairedDetectionDataset:
    """The test pairs, letterboxed."""
    data = open_data_set(tiny_flir)
    return PairedDetectionDataset(
        data.records["test"], PairTransform((48, 96), fill_from_mean(data.normalization), False)
    )


def of_pictures(plain: PairedDetectionDataset, rgb: torch.Tensor, thermal: torch.Tensor) -> dict[str, torch.Tensor]:
    return plain.transform(rgb, thermal, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["noise", "shift", "black"])
def test_versions_are_samples_of_corrupted_pictures(plain, kind):
    corrupted = CorruptedPairs(plain, kind, seed=7)
    for key in range(len(plain)):
        sample, wanted = corrupted[key, 0], plain[key, 0]
        assert tuple(sample["versions"]) == (0, *severities(kind))
        for modality in ("rgb", "thermal"):
            assert torch.equal(sample["versions"][0][modality], wanted[modality])
        for name in ("boxes_xyxy", "labels"):
            assert torch.equal(sample[name], wanted[name])
        record = plain.records[key]
        for severity in severities(kind):
            pair = (corrupt(x, kind, severity, 7, record.image_id) for x in load_pair(record))
            made = of_pictures(plain, *pair)
            assert all(torch.equal(sample["versions"][severity][m], made[m]) for m in ("rgb", "thermal"))


def test_a_frozen_sensor_shows_the_first_picture(plain):
    frozen, first = CorruptedPairs(plain, "frozen", seed=7), plain[0]
    for key in range(len(plain)):
        version = frozen[key, 0]["versions"][5]
        assert all(torch.equal(version[m], first[m]) for m in ("rgb", "thermal"))
    assert not torch.equal(plain[1]["rgb"], first["rgb"])
