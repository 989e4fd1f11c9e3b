"""Reading the files of pairs: what one says of another, and duplicates, by hand-made pairs."""

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import write_png

from datasets.detection.paired_detection import PairRecord
from tools.data_checks.pairs import Pair, duplicates, inspect_pair, inspect_pairs

SIZE = (40, 48)  # height, width


@pytest.fixture
def make(tmp_path):
    """Return a function that writes the files of a pair and gives its record."""

    def write(name: str, rgb: torch.Tensor, thermal: torch.Tensor) -> PairRecord:
        paths = [str(tmp_path / f"{name}_{modality}.png") for modality in ("rgb", "thermal")]
        for path, image in zip(paths, (rgb, thermal)):
            write_png(image, path)
        return PairRecord(name, name, *paths, SIZE[1], SIZE[0], np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    return write


def noise(seed: int, channels: int = 3, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randint(0, 256, (channels, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_a_sound_pair(make):
    record = make("a", noise(0), noise(1, 1))
    pair, correlation = inspect_pair("train", record, 1)
    assert pair.problems == pair.blank == []
    assert pair.sizes == {"rgb": (48, 40), "thermal": (48, 40)}
    assert pair.digests["rgb"] == hashlib.sha256(Path(record.rgb_path).read_bytes()).hexdigest()
    assert pair.thermal_bits == 8
    assert pair.compared
    assert correlation.ndim == 2


def test_blank_is_one_colour_throughout(make):
    nearly = torch.full((1, *SIZE), 9, dtype=torch.uint8)
    nearly[0, 20, 20] = 10
    colour = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None].expand(3, *SIZE).contiguous()
    pair, correlation = inspect_pair("train", make("a", colour, nearly), 1)
    assert pair.blank == ["rgb"]
    assert correlation is None
    assert not pair.compared


def test_each_file_tells_its_own_fault(make):
    record = make("a", noise(0), noise(1, 1, (20, 24)))
    Path(record.rgb_path).write_bytes(Path(record.rgb_path).read_bytes()[:200])
    pair, _ = inspect_pair("train", record, 1)
    assert [problem.kind for problem in pair.problems] == ["files that are no images", "sizes"]
    assert [record.rgb_path in pair.problems[0].message, record.thermal_path in pair.problems[1].message] == [True] * 2
    assert "24x20" in pair.problems[1].message


def test_files_that_are_gone_are_named(make):
    record = make("a", noise(0), noise(1, 1))
    Path(record.rgb_path).unlink()
    (problem,) = inspect_pair("train", record, 1)[0].problems
    assert problem.message.startswith(f"{record.rgb_path}: expected an image, found none to read")


def test_pairs_come_in_order_whatever_the_workers(make):
    records = {
        origin: [make(f"{origin}{n}", noise(n), noise(n + 9, 1)) for n in range(4)] for origin in ("train", "test")
    }
    for workers in (1, 3):
        names = [(pair.origin, pair.record.file_name) for pair, _ in inspect_pairs(records, 1, workers)]
        assert names == [(origin, record.file_name) for origin, mine in records.items() for record in mine]


def test_duplicates_are_the_pairs_that_share_bytes_with_an_earlier_one():
    draws = np.random.default_rng(0)
    pairs = []
    for number in range(60):
        record = PairRecord(number, f"{number:02d}", f"{number:02d}r", f"{number:02d}t", 1, 1, None, None)
        digests = {m: str(draws.integers(60)) for m in ("thermal", "rgb")}
        pairs.append(Pair(("train", "test")[number // 30], record, digests, dict.fromkeys(digests, (1, 1))))
    later = {
        other.record.thermal_path
        for one, other in combinations(pairs, 2)
        if any(one.digests[m] == other.digests[m] for m in one.digests)
    }
    assert 10 < len(later) < 50
    found = [problem.message.partition(":")[0] for problem in duplicates(pairs)]
    assert sorted(found) == sorted(later)


def test_what_is_blank_or_unreadable_is_no_duplicate():
    record = PairRecord(0, "a", "ar", "at", 1, 1, None, None)
    other = PairRecord(1, "b", "br", "bt", 1, 1, None, None)
    digests = {"thermal": "same", "rgb": "same"}
    for blank, sizes in ((["thermal", "rgb"], dict.fromkeys(digests, (1, 1))), ([], {})):
        assert duplicates([Pair("train", r, digests, sizes, blank) for r in (record, other)]) == []
