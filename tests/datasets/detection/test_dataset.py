"""Decoding of pairs, and samples that depend on their key only."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import write_jpeg, write_png

from datasets.detection.dataset import DetectionDataset, DetectionRecord, load_images
from datasets.detection.sources import CHANNELS
from datasets.detection.transforms import DetectionTransform
from utils.errors import UserError

HEIGHT, WIDTH = 24, 40


def make_record(folder: Path, thermal_channels: int = 1) -> DetectionRecord:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 255, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    thermal = torch.randint(0, 255, (1, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    write_jpeg(rgb, str(folder / "a_RGB.jpg"))
    write_png(thermal.repeat(thermal_channels, 1, 1), str(folder / "a.png"))
    boxes, labels = np.float32([[4, 4, 20, 20]]), np.int64([2])
    paths = {"rgb": str(folder / "a_RGB.jpg"), "thermal": str(folder / "a.png")}
    return DetectionRecord("a", "a.png", paths, WIDTH, HEIGHT, boxes, labels)


def make_dataset(folder: Path) -> DetectionDataset:
    fill = {"rgb": [1, 2, 3], "thermal": [4]}
    transform = DetectionTransform((32, 32), fill, train=True, hflip=0.5, scale_jitter=(0.5, 2.0), photometric=0.3)
    return DetectionDataset([make_record(folder)], transform, CHANNELS)


def test_sample(tmp_path):
    sample = make_dataset(tmp_path)[0]
    assert (sample["images"]["rgb"].shape, sample["images"]["rgb"].dtype) == ((3, 32, 32), torch.uint8)
    assert (sample["images"]["thermal"].shape, sample["images"]["thermal"].dtype) == ((1, 32, 32), torch.uint8)
    assert sample["boxes_xyxy"].dtype == torch.float32
    assert sample["labels"].dtype == torch.int64
    assert (sample["image_id"], sample["original_size"]) == ("a", (HEIGHT, WIDTH))
    assert type(sample["images"]["rgb"]) is torch.Tensor


def test_three_equal_thermal_channels_are_one(tmp_path):
    one = load_images(make_record(tmp_path), CHANNELS)["thermal"]
    three = load_images(make_record(tmp_path, thermal_channels=3), CHANNELS)["thermal"]
    assert torch.equal(one, three)
    assert three.shape == (1, HEIGHT, WIDTH)


def test_draws_come_from_the_key_only(tmp_path):
    dataset = make_dataset(tmp_path)
    torch.manual_seed(1)
    first = dataset[0, 5]
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after), "the global generator was moved"
    again, other = dataset[0, 5], dataset[0, 6]
    assert torch.equal(first["images"]["rgb"], again["images"]["rgb"])
    assert torch.equal(first["images"]["thermal"], again["images"]["thermal"])
    assert not torch.equal(first["images"]["rgb"], other["images"]["rgb"])
    assert torch.equal(dataset[0]["images"]["rgb"], dataset[0, 0]["images"]["rgb"])


def test_a_dropped_sensor_is_black_and_all_else_as_before(tmp_path):
    """Over many seeds: the share that is asked for, each sensor as often, never both; colour changes keep it black."""
    plain = make_dataset(tmp_path)
    dropping = DetectionDataset(plain.records, plain.transform, CHANNELS, dropout=0.4)
    assert {plain.black((0, seed)) for seed in range(50)} == {None}
    names = [dropping.black((0, seed)) for seed in range(4000)]
    for name in ("rgb", "thermal"):
        assert names.count(name) / 4000 == pytest.approx(0.2, abs=0.03)
    for seed in range(40):
        before, after = plain[0, seed], dropping[0, seed]
        black = dropping.black((0, seed))
        for name in ("boxes_xyxy", "labels"):
            assert torch.equal(before[name], after[name])
        for name in {"rgb", "thermal"} - {black}:
            assert torch.equal(before["images"][name], after["images"][name])
        assert (before["scale"], before["flip"]) == (after["scale"], after["flip"])
        if black:
            fill = torch.tensor(plain_fill(plain)[black], dtype=torch.uint8)[:, None, None]
            assert ((after["images"][black] == 0) | (after["images"][black] == fill)).all()
            assert (after["images"][black] == 0).any()


def plain_fill(dataset: DetectionDataset) -> dict[str, list[int]]:
    return {modality: canvas[:, 0, 0].tolist() for modality, canvas in dataset.transform.canvases.items()}


def check_refused(record: DetectionRecord, path: str, *words: str) -> None:
    with pytest.raises(UserError) as error:
        load_images(record, CHANNELS)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("content", ["empty", "cut", "text", "missing"])
def test_unreadable_file(tmp_path, content):
    record = make_record(tmp_path)
    path = Path(record.paths["rgb"])
    whole = path.read_bytes()
    path.unlink()
    if content != "missing":
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no image"}[content])
    check_refused(record, record.paths["rgb"], "cannot be decoded")


def test_size_that_disagrees_with_the_partner(tmp_path):
    record = make_record(tmp_path)
    write_jpeg(torch.zeros(3, HEIGHT, WIDTH + 8, dtype=torch.uint8), record.paths["rgb"])
    check_refused(record, record.paths["rgb"], "expected 40x24", "found 48x24")


def test_size_that_disagrees_with_the_annotation(tmp_path):
    record = dataclasses.replace(make_record(tmp_path), height=HEIGHT + 1)
    check_refused(record, record.paths["thermal"], "expected 40x25", "found 40x24")


def test_thermal_in_colour(tmp_path):
    record = make_record(tmp_path)
    colour = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    colour[0] = 90
    write_png(colour, record.paths["thermal"])
    check_refused(record, record.paths["thermal"], "three equal ones", "90 of 255")


def test_a_target_is_a_sample_without_images(tmp_path):
    dataset = make_dataset(tmp_path)
    samples = {seed: dataset[0, seed] for seed in range(20)}
    for path in tmp_path.iterdir():
        path.unlink()  # no file may be opened from here on
    for seed, sample in samples.items():
        target = dataset.target((0, seed))
        assert set(sample) - set(target) == {"images"}
        assert (target["black"], target["image_size"]) == (None, (32, 32))
        for name, value in target.items():
            assert torch.equal(value, sample[name]) if isinstance(value, torch.Tensor) else value == sample[name]
    assert {sample["flip"] for sample in samples.values()} == {True, False}
    assert len({sample["scale"] for sample in samples.values()}) == len(samples)


def test_a_target_leaves_the_global_generator(tmp_path):
    dataset = make_dataset(tmp_path)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    dataset.target(0)
    assert torch.equal(torch.rand(1), expected)
