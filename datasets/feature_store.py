"""Where cached features lie: records of equal size, found by key, in memory or in a memory-mapped file.

A record is what a frozen stream makes of one image: maps of fixed shapes. In memory, records lie in one anonymous
mapping that forked loader processes share. On disk, a folder holds `features.bin`, the records one behind the other,
and `index.txt`, the key of each, one line per record, written after the record is. So an interrupted fill leaves whole
records, and processes that read them share the pages.

Shapes: a record is a list of maps (K, H, W, C), each with its own numbers.
"""

import contextlib
import math
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

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
        self.slots: dict[str, int] = {}
        self.bytes = torch.empty(0, dtype=torch.uint8)

    @property
    def record_bytes(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes) * self.dtype.itemsize

    def __contains__(self, key: str) -> bool:
        return key in self.slots

    def __getitem__(self, key: str) -> list[Tensor]:
        """Give the maps of a record; they are views and must not be written to."""
        start = self.slots[key] * self.record_bytes
        numbers = self.bytes[start : start + self.record_bytes].view(self.dtype)
        flat = numbers.split([math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(flat, self.shapes)]

    def _to_bytes(self, maps: list[Tensor]) -> Tensor:
        assert tuple(tuple(m.shape) for m in maps) == self.shapes, ([tuple(m.shape) for m in maps], self.shapes)
        numbers = torch.cat([m.reshape(-1) for m in maps]).to(self.dtype)
        if not numbers.isfinite().all():
            raise UserError(
                f"--cache_dtype: expected finite features in {self.dtype}, found others: float16 ends at 65504; where "
                "float32 finds them, too, the weights of the stream are broken"
            )
        return numbers.view(torch.uint8)


class MemoryStore(Store):
    """Records in memory."""

    busy = False  # nobody else writes to it

    @contextlib.contextmanager
    def writing(self, count: int, log: Callable[[str], None]) -> Iterator[None]:
        """Make room for the records that `add` brings inside the block, at least 1."""
        self.bytes = torch.frombuffer(mmap.mmap(-1, count * self.record_bytes), dtype=torch.uint8)
        yield

    def add(self, records: dict[str, list[Tensor]]) -> None:
        """Keep records under their keys; UserError where a number does not fit into the type."""
        for key, maps in records.items():
            start = len(self.slots) * self.record_bytes
            self.bytes[start : start + self.record_bytes] = self._to_bytes(maps)
            self.slots[key] = len(self.slots)


class DiskStore(Store):
    """Records in a folder, which outlast the process; the one who adds to them holds the folder's lock."""

    def __init__(self, shapes: Shapes, dtype: torch.dtype, folder: Path):
        super().__init__(shapes, dtype)
        self.folder, self.data, self.index = folder, folder / "features.bin", folder / "index.txt"
        self.open()

    def open(self) -> None:
        """Read what is there now; what an interrupted writer left half done does not count."""
        keys = self._whole()
        self.slots = {key: slot for slot, key in enumerate(keys)}
        size = len(keys) * self.record_bytes
        self.bytes = torch.empty(0, dtype=torch.uint8)
        if size:
            self.bytes = torch.from_file(str(self.data), shared=False, size=size, dtype=torch.uint8)

    @contextlib.contextmanager
    def writing(self, count: int, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder alone, with what others have added by now; what `add` brings inside is there after the block.

        Raises:
            UserError: the folder cannot be written to.
        """
        with contextlib.ExitStack() as held:
            with self._faults_named():
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.folder, log, "another process"))
                self._cut()
            yield
        self.open()

    @property
    def busy(self) -> bool:
        """Whether another process adds records now."""
        return is_locked(self.folder)

    def _whole(self) -> list[str]:
        """Give the keys of the whole records; a byte that is none of ours makes a key that nobody asks for."""
        with self._faults_named():
            text = self.index.read_text(encoding="ascii", errors="replace") if self.index.exists() else ""
            count = self.data.stat().st_size // self.record_bytes if self.data.exists() else 0
        return text.split("\n")[:-1][:count]

    def _cut(self) -> None:
        """Cut off what an interrupted writer left half done."""
        keys = self._whole()
        self.slots = {key: slot for slot, key in enumerate(keys)}
        for path, size in ((self.index, sum(len(key) + 1 for key in keys)), (self.data, len(keys) * self.record_bytes)):
            with open(path, "ab") as file:
                file.truncate(size)

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
        _write(self.data, *content)
        _write(self.index, "".join(f"{key}\n" for key in records).encode("ascii"))
        self.slots |= dict.fromkeys(records, -1)  # their places are read when the block ends

    def __getstate__(self) -> dict:
        return {"shapes": self.shapes, "dtype": self.dtype, "folder": self.folder}

    def __setstate__(self, state: dict) -> None:
        """Open the files anew in a spawned process."""
        self.__init__(**state)


def _write(path: Path, *content: bytes) -> None:
    """Append and wait for the disk."""
    try:
        with open(path, "ab") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"{path}: expected room for cached features, found: {error.strerror}; what is there stays usable: make "
            "room, or use --cache_dir, --cache_level encoder, --cache_dtype bfloat16, or --cache_features off"
        ) from None
