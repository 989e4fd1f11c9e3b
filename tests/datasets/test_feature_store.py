"""Stores of cached features: what is kept comes back, what was interrupted is cut off, a full disk loses nothing."""

import contextlib
import copy
import resource
import threading
import time
from pathlib import Path

import pytest
import torch

from datasets.feature_store import DiskStore, MemoryStore
from tests.thread_ranks import together
from utils.distributed import Ranks
from utils.errors import UserError

SHAPES = ((2, 3, 4, 5), (2, 2, 2, 5))


def record(seed: int) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws) for shape in SHAPES]


def filled(store, *keys: int, said: list[str] | None = None):
    with store.writing(len(keys), [].append if said is None else said.append):
        store.add({f"image{key}": record(key) for key in keys})
    return store


def assert_holds(store, *keys: int) -> None:
    assert set(store.slots) == {f"image{key}" for key in keys}
    for key in keys:
        for found, expected in zip(store[f"image{key}"], record(key), strict=True):
            assert torch.equal(found, expected.to(store.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_what_is_kept_comes_back(dtype, place, tmp_path):
    store = MemoryStore(SHAPES, dtype) if place == "memory" else DiskStore(SHAPES, dtype, tmp_path / "a" / "b")
    assert "image1" not in store
    assert_holds(filled(store, 1, 2, 3), 1, 2, 3)
    assert store.record_bytes == (120 + 40) * dtype.itemsize
    with pytest.raises(KeyError):
        store["image4"]


def test_disk_outlasts_the_process_and_grows(tmp_path):
    filled(DiskStore(SHAPES, torch.float32, tmp_path), 1, 2)
    again = filled(DiskStore(SHAPES, torch.float32, tmp_path), 3)
    assert_holds(again, 1, 2, 3)
    assert_holds(copy.deepcopy(again), 1, 2, 3)  # made of its state, as in a spawned loader process
    assert (tmp_path / "features.bin").stat().st_size == 3 * again.record_bytes


@pytest.mark.parametrize("harm", ["half a record", "half a line", "a record without a line", "a line without a record"])
def test_an_interrupted_writer_leaves_whole_records(harm, tmp_path):
    filled(DiskStore(SHAPES, torch.float32, tmp_path), 1, 2)
    data, index = tmp_path / "features.bin", tmp_path / "index.txt"
    if harm == "half a record":
        data.write_bytes(data.read_bytes() + b"x" * 300)
    elif harm == "half a line":
        index.write_text(index.read_text() + "ima")
        data.write_bytes(data.read_bytes() + b"x" * 640)
    elif harm == "a record without a line":
        data.write_bytes(data.read_bytes() + b"x" * 640)
    else:
        index.write_text(index.read_text() + "image7\n")
    assert_holds(DiskStore(SHAPES, torch.float32, tmp_path), 1, 2)
    assert_holds(filled(DiskStore(SHAPES, torch.float32, tmp_path), 3), 1, 2, 3)
    assert_holds(DiskStore(SHAPES, torch.float32, tmp_path), 1, 2, 3)


@contextlib.contextmanager
def room_for(bytes_per_file: int):
    """Let the system refuse longer files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_what_was_there(tmp_path):
    store = filled(DiskStore(SHAPES, torch.float32, tmp_path), 1)
    with (
        room_for(2 * store.record_bytes - 10),
        pytest.raises(UserError, match=r"features\.bin: expected room") as error,
    ):
        filled(store, 2)
    assert "--cache_level encoder" in str(error.value)
    assert_holds(DiskStore(SHAPES, torch.float32, tmp_path), 1)
    assert_holds(filled(DiskStore(SHAPES, torch.float32, tmp_path), 2), 1, 2)


def test_numbers_that_a_half_type_cannot_hold_are_refused():
    store = MemoryStore(SHAPES, torch.float16)
    with store.writing(1, print), pytest.raises(UserError, match="--cache_dtype"):
        store.add({"large": [torch.full(shape, 1e5) for shape in SHAPES]})


def test_one_process_writes_at_a_time(tmp_path):
    said, first, second = [], *(DiskStore(SHAPES, torch.float32, tmp_path) for _ in range(2))
    assert not second.busy
    with first.writing(1, print):
        assert second.busy
        other = threading.Thread(target=filled, args=(second, 2), kwargs={"said": said})
        other.start()
        while not said:  # until the other waits
            other.join(0.01)
        first.add({"image1": record(1)})
    other.join()
    assert said == [f"waiting: another process is writing to {tmp_path}"]
    assert_holds(second, 1, 2)


def test_a_damaged_index_loses_its_own_records_alone(tmp_path):
    filled(DiskStore(SHAPES, torch.float32, tmp_path), 1, 2, 3)
    index = tmp_path / "index.txt"
    index.write_bytes(index.read_bytes().replace(b"image2", b"im\xffge2"))
    store = DiskStore(SHAPES, torch.float32, tmp_path)
    assert "image2" not in store
    filled(store, 2)
    for key in (1, 2, 3):
        assert torch.equal(store[f"image{key}"][0], record(key)[0])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    store = DiskStore(SHAPES, torch.float32, Path(tmp_path / "file" / "key"))
    with pytest.raises(UserError, match="--cache_dir"), store.writing(1, print):
        pass


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_ranks_fill_a_store_together(place, tmp_path):
    """Each adds its own, and then reads those of all."""

    def work(ranks: Ranks):
        store = MemoryStore(SHAPES, torch.float32) if place == "memory" else DiskStore(SHAPES, torch.float32, tmp_path)
        with store.writing(6, [].append, ranks):
            own = ranks.stride([1, 2, 3, 4, 5])
            store.add({f"image{key}": record(key) for key in own})
            others = [key for key in range(1, 6) if key not in own]
            assert not any(f"image{key}" in store for key in others)
            store.note(ranks.all_gather([f"image{key}" for key in own]))
            assert all(f"image{key}" in store for key in others)
        return store

    for store in together(3, work):
        assert_holds(store, 1, 2, 3, 4, 5)
    if place == "disk":
        assert_holds(DiskStore(SHAPES, torch.float32, tmp_path), 1, 2, 3, 4, 5)
        assert_holds(filled(DiskStore(SHAPES, torch.float32, tmp_path), 6), 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_all_ranks_begin_with_the_same(late, tmp_path):
    """Else they would divide different lists, and some records would be nobody's."""

    class Late(DiskStore):
        def open(self):
            if getattr(self, "slow", False):
                time.sleep(0.2)
            super().open()

    def work(ranks: Ranks) -> list[str]:
        store = Late(SHAPES, torch.float32, tmp_path)
        store.slow = ranks.number == late
        with store.writing(3, [].append, ranks):
            there = list(store.slots)
            store.add({f"image{ranks.number}": record(ranks.number)})
        return there

    assert together(3, work) == [[], [], []]


def test_what_an_interrupted_rank_left_is_cut_off(tmp_path):
    def work(ranks: Ranks):
        store = DiskStore(SHAPES, torch.float32, tmp_path)
        with store.writing(3, [].append, ranks):
            store.add({f"image{ranks.number}": record(ranks.number)})

    together(2, work)
    data = tmp_path / "features-1.bin"
    data.write_bytes(data.read_bytes()[:-100])
    assert_holds(DiskStore(SHAPES, torch.float32, tmp_path), 0)
    assert_holds(filled(DiskStore(SHAPES, torch.float32, tmp_path), 2), 0, 2)
    assert data.stat().st_size == 0
