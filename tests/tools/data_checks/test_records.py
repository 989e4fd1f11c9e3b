"""Reading the files of pairs: what one says of another, and duplicates, by hand-made pairs."""

import hashlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import write_png

from datasets.detection.dataset import DetectionRecord
from tools.data_checks.records import CheckedRecord, duplicates, in_threads, inspect_record

SIZE = (40, 48)  # height, width
CHANNELS = {"thermal": 1, "rgb": 3}


@pytest.fixture
def make(tmp_path):
    """Return a function that writes the files of a pair and gives its record."""

    def write(name: str, rgb: torch.Tensor, thermal: torch.Tensor) -> DetectionRecord:
        paths = {modality: str(tmp_path / f"{name}_{modality}.png") for modality in ("rgb", "thermal")}
        for path, image in zip(paths.values(), (rgb, thermal)):
            write_png(image, path)
        return DetectionRecord(name, name, paths, SIZE[1], SIZE[0], np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    return write


def noise(seed: int, channels: int = 3, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randint(0, 256, (channels, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_a_sound_pair(make):
    record = make("a", noise(0), noise(1, 1))
    pair, correlation = inspect_record("train", record, CHANNELS, 1)
    assert pair.problems == pair.blank == []
    assert pair.sizes == {"rgb": (48, 40), "thermal": (48, 40)}
    assert pair.digests["rgb"] == hashlib.sha256(Path(record.paths["rgb"]).read_bytes()).hexdigest()
    assert pair.grey_bits == 8
    assert pair.compared
    assert correlation.ndim == 2


def test_blank_is_one_colour_throughout(make):
    nearly = torch.full((1, *SIZE), 9, dtype=torch.uint8)
    nearly[0, 20, 20] = 10
    colour = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None].expand(3, *SIZE).contiguous()
    pair, correlation = inspect_record("train", make("a", colour, nearly), CHANNELS, 1)
    assert pair.blank == ["rgb"]
    assert correlation is None
    assert not pair.compared


def test_each_file_tells_its_own_fault(make):
    record = make("a", noise(0), noise(1, 1, (20, 24)))
    Path(record.paths["rgb"]).write_bytes(Path(record.paths["rgb"]).read_bytes()[:200])
    pair, _ = inspect_record("train", record, CHANNELS, 1)
    assert [problem.kind for problem in pair.problems] == ["files that are no images", "sizes"]
    assert [record.paths["rgb"] in pair.problems[0].message, record.paths["thermal"] in pair.problems[1].message] == [
        True
    ] * 2
    assert "24x20" in pair.problems[1].message


def test_files_that_are_gone_are_named(make):
    record = make("a", noise(0), noise(1, 1))
    Path(record.paths["rgb"]).unlink()
    (problem,) = inspect_record("train", record, CHANNELS, 1)[0].problems
    assert problem.message.startswith(f"{record.paths['rgb']}: expected an image, found none to read")


def test_pairs_come_in_order_whatever_the_workers(make):
    records = {
        origin: [make(f"{origin}{n}", noise(n), noise(n + 9, 1)) for n in range(4)] for origin in ("train", "test")
    }
    jobs = [(origin, record) for origin, listed in records.items() for record in listed]
    for workers in (1, 3):
        with in_threads(lambda job: inspect_record(*job, CHANNELS, 1), jobs, workers, "read") as reading:
            names = [(pair.origin, pair.record.file_name) for pair, _ in reading]
        assert names == [(origin, record.file_name) for origin, mine in records.items() for record in mine]


def record_of(number: int, name: str) -> DetectionRecord:
    return DetectionRecord(number, name, {"rgb": f"{name}r", "thermal": f"{name}t"}, 1, 1, None, None)


def test_duplicates_are_the_pairs_that_share_bytes_with_an_earlier_one():
    draws = np.random.default_rng(0)
    pairs = []
    for number in range(60):
        record = record_of(number, f"{number:02d}")
        digests = {m: str(draws.integers(60)) for m in ("thermal", "rgb")}
        pairs.append(
            CheckedRecord(("train", "test")[number // 30], record, CHANNELS, digests, dict.fromkeys(digests, (1, 1)))
        )
    later = {
        other.record.paths["thermal"]
        for one, other in combinations(pairs, 2)
        if any(one.digests[m] == other.digests[m] for m in one.digests)
    }
    assert 10 < len(later) < 50
    found = [problem.message.partition(":")[0] for problem in duplicates(pairs)]
    assert sorted(found) == sorted(later)


def test_what_is_blank_or_unreadable_is_no_duplicate():
    record = record_of(0, "a")
    other = record_of(1, "b")
    digests = {"thermal": "same", "rgb": "same"}
    for blank, sizes in ((["thermal", "rgb"], dict.fromkeys(digests, (1, 1))), ([], {})):
        assert duplicates([CheckedRecord("train", r, CHANNELS, digests, sizes, blank) for r in (record, other)]) == []


def test_a_single_image_is_not_compared(make):
    record = make("a", noise(0), noise(1, 1))
    single = replace(record, paths={"rgb": record.paths["rgb"]})
    checked, correlation = inspect_record("train", single, {"rgb": 3}, 1)
    assert (checked.problems, checked.grey_bits, correlation) == ([], None, None)
    assert checked.sizes == {"rgb": (48, 40)}
    small = replace(single, width=50)
    assert inspect_record("train", small, {"rgb": 3}, 1)[0].problems[0].message.endswith("found RGB of 48x40 px")
