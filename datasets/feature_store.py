"""Stores of cached features: records of equal size, found by key, in memory or in a memory-mapped file.

A record holds the features that a frozen stream computes of one input: maps of fixed shapes. In memory, records are in
an anonymous mapping that forked loader processes share. On disk, a folder holds `features.bin`, the records one after
the other, and `index.txt`, the key of each, one line per record, which is written after the record. So an interrupted
fill leaves whole records, and processes that read them share the pages.

Where several ranks of a machine fill a store, each adds records to a region of its own, in memory or in files with its
number (`features-1.bin`, ...), and then reads the regions of all ranks. So each record is kept once.

Shapes: a record is a list of maps (K, H, W, C), each with its own numbers.
"""

import contextlib
import fcntl
import math
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UserError
from utils.lock import is_locked, locked

Shapes = tuple[tuple[int, ...], ...]


class Store:
    """Records in some bytes, found by key.

    Args:
        shapes: of the maps of a record.
        dtype: of their numbers.
    """

    def __init__(self, shapes: Shapes, dtype: torch.dtype):
        self.shapes, self.dtype = shapes, dtype
        self.sizes = [math.prod(shape) for shape in shapes]
        self.record_bytes = sum(self.sizes) * dtype.itemsize
        self.slots: dict[str, tuple[int, int]] = {}  # of a key: its region, and its place in there
        self.regions: list[Tensor] = []

    def __contains__(self, key: str) -> bool:
        return key in self.slots

    def __getitem__(self, key: str) -> list[Tensor]:
        """Return the maps of a record; they are views and must not be written to."""
        region, place = self.slots[key]
        start = place * self.record_bytes
        numbers = self.regions[region][start : start + self.record_bytes].view(self.dtype)
        return [part.view(shape) for part, shape in zip(numbers.split(self.sizes), self.shapes)]

    def note(self, keys: list[str]) -> None:
        """Count records that other ranks have added as present; they can be read after the block of `writing`."""
        self.slots = dict.fromkeys(keys, (-1, -1)) | self.slots

    def _to_bytes(self, maps: list[Tensor]) -> Tensor:
        # Inputs of the other orientation have maps of transposed sides.
        shapes = tuple(tuple(m.shape) for m in maps)
        assert [sorted(shape) for shape in shapes] == [sorted(shape) for shape in self.shapes], (shapes, self.shapes)
        numbers = torch.cat([m.reshape(-1) for m in maps]).to(self.dtype)
        if not numbers.isfinite().all():
            raise UserError(
                f"--cache_dtype: expected finite features in {self.dtype}, found others: float16 ends at 65504; if "
                "float32 has them, too, the weights of the stream are broken"
            )
        return numbers.view(torch.uint8)


class MemoryStore(Store):
    """Records in memory."""

    busy = False  # nobody else writes to it

    @contextlib.contextmanager
    def writing(self, count: int, log: Callable[[str], None], ranks: Ranks = SINGLE_PROCESS) -> Iterator[None]:
        """Make room for the records that `add` brings inside the block, at least 1.

        `ranks`: of this machine, which fill the store together; after the block each has all records.

        Raises:
            UserError: the system has no memory that ranks can share.
        """
        self.size, self.added = count * self.record_bytes, []
        if ranks.count == 1:
            self.regions = [self._map(-1)]
            yield
            return
        if not hasattr(os, "memfd_create"):
            raise UserError("--cache_features ram: expected Linux where several processes share it: use disk")
        with open(os.memfd_create("features"), "r+b") as file:  # has no name that a kill could leave behind
            file.truncate(self.size)  # pages are taken as they are written
            self.regions = [self._map(file.fileno())]
            yield
            self._join(ranks, file.fileno())

    def _join(self, ranks: Ranks, file: int) -> None:
        """Map the regions of all ranks."""
        self.regions, self.slots = [], {}
        for number, (process, descriptor, keys) in enumerate(ranks.gather((os.getpid(), file, self.added))):
            with open(f"/proc/{process}/fd/{descriptor}", "r+b") as region:
                self.regions.append(self._map(region.fileno()))
            self.slots |= {key: (number, place) for place, key in enumerate(keys)}
        ranks.barrier()  # until then the files are open

    def _map(self, file: int) -> Tensor:
        return torch.frombuffer(mmap.mmap(file, self.size), dtype=torch.uint8)

    def add(self, records: dict[str, list[Tensor]]) -> None:
        """Keep records under their keys; UserError where a number does not fit into the type."""
        for key, maps in records.items():
            start = len(self.added) * self.record_bytes
            self.regions[0][start : start + self.record_bytes] = self._to_bytes(maps)
            self.slots[key] = (0, len(self.added))
            self.added.append(key)


class DiskStore(Store):
    """Records in a folder, which stay when the process ends; a process that adds to them holds the folder's lock."""

    def __init__(self, shapes: Shapes, dtype: torch.dtype, folder: Path):
        super().__init__(shapes, dtype)
        self.folder, self.number = folder, 0
        self.open()

    def files(self, number: int) -> tuple[Path, Path]:
        """Return records and index of the rank of a number."""
        end = f"-{number}" if number else ""
        return self.folder / f"features{end}.bin", self.folder / f"index{end}.txt"

    def open(self) -> None:
        """Read what is there now; what an interrupted writer left half done does not count."""
        self.slots, self.regions = {}, []
        with self._faults_named():
            whole = [(data, keys) for data, _, keys in self._whole() if keys]
        for number, (data, keys) in enumerate(whole):
            size = len(keys) * self.record_bytes
            self.slots |= {key: (number, place) for place, key in enumerate(keys)}
            self.regions.append(torch.from_file(str(data), shared=False, size=size, dtype=torch.uint8))

    @contextlib.contextmanager
    def writing(self, count: int, log: Callable[[str], None], ranks: Ranks = SINGLE_PROCESS) -> Iterator[None]:
        """Hold the folder alone, with what others have added by now; what `add` brings inside is there after the block.

        `ranks`: of this machine, which hold the folder together.

        Raises:
            UserError: the folder cannot be written to.
        """
        with contextlib.ExitStack() as held:
            ranks.broadcast_from_first(lambda: self._hold(held, log))
            self.number = ranks.number
            with self._faults_named():  # this rank's index, which may outlive the one that holds the folder by a moment
                index = held.enter_context(open(self.files(self.number)[1], "ab"))
                fcntl.flock(index, fcntl.LOCK_EX)
            held.callback(fcntl.flock, index, fcntl.LOCK_UN)  # also where a loader process has inherited it
            self.open()
            ranks.barrier()  # none adds before all have seen the same
            yield
            ranks.barrier()
        self.open()

    def _hold(self, held: contextlib.ExitStack, log: Callable[[str], None]) -> None:
        """Wait for the folder, and cut off what an interrupted writer left half done."""
        with self._faults_named():
            self.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(self.folder, log, "another process"))
            for data, index, keys in self._whole():
                sizes = {index: sum(len(key) + 1 for key in keys), data: len(keys) * self.record_bytes}
                for path, size in sizes.items():
                    with open(path, "ab") as file:
                        fcntl.flock(file, fcntl.LOCK_EX)  # behind a rank of a job whose first one has been killed
                        file.truncate(size)

    @property
    def busy(self) -> bool:
        """Whether another process adds records now."""
        return is_locked(self.folder)

    def _whole(self) -> Iterator[tuple[Path, Path, list[str]]]:
        """Yield the files of this rank, and of all that have added records here, with the keys of whole records."""
        ends = {path.stem.removeprefix("index") for path in self.folder.glob("index*.txt")} | {""}
        for end in sorted(end for end in ends if end == "" or end[1:].isdecimal()):
            data, index = self.files(int(end[1:] or 0))
            # A byte that is not ASCII makes a key that no record has.
            text = index.read_text(encoding="ascii", errors="replace") if index.exists() else ""
            count = data.stat().st_size // self.record_bytes if data.exists() else 0
            yield data, index, text.split("\n")[:-1][:count]

    @contextlib.contextmanager
    def _faults_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f"--cache_dir {self.folder.parent}"
            raise UserError(f"{where}: expected a folder to read and write, found: {error}") from None

    def add(self, records: dict[str, list[Tensor]]) -> None:
        """Append records; UserError where the disk is full, which leaves those before, or as for memory."""
        content = [self._to_bytes(maps).numpy().tobytes() for maps in records.values()]
        lines = [f"{key}\n".encode("ascii") for key in records]
        for path, more in zip(self.files(self.number), (content, lines)):
            try:
                with open(path, "ab") as file:
                    file.writelines(more)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise UserError(
                    f"{path}: expected room for cached features, found: {error.strerror}; what is there stays usable: "
                    "make room, or use --cache_dir, --cache_level encoder, --cache_dtype bfloat16, or --cache_features "
                    "off"
                ) from None
        self.note(list(records))

    def __reduce__(self) -> tuple:
        """Open the files anew in a spawned process."""
        return DiskStore, (self.shapes, self.dtype, self.folder)


AnyStore = MemoryStore | DiskStore
