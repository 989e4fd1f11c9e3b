"""Loaders of samples that are the same for any number of workers and ranks.

Each sample carries its own seed, so it can be made anywhere at any time: a resumed run gets the same samples as one
that was never stopped. A sample with a file that cannot be read ends the run, or is left out of its batch as long as
`BadFiles` allows it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.batches import Key, SeededBatches
from utils import distributed
from utils.distributed import Ranks
from utils.errors import UserError

# Samples per batch where nothing is trained: as many as fit on one device, however many share a training batch. The
# number is the same for any number of ranks, since the last digits of a map may depend on the others in its batch.
EVAL_BATCH_SIZE = 16
IGNORED = (signal.SIGINT, signal.SIGUSR1)  # by workers

Sample = dict[str, Any]
Collate = Callable[[list[Sample]], dict[str, Any]]


@dataclass(frozen=True)
class LoaderOptions:
    """How batches are made.

    Args:
        batch_size: samples of a training batch, of all ranks together.
        seed: of order and augmentation, 0 or more.
        workers: processes that decode; 0: this process.
        pin_memory: pin memory, which speeds up copies to a GPU.
        max_bad_files: samples that may be left out, in all, because a file of them cannot be read; None: in a test,
            none.
        group: of a record: a batch holds samples of one group, such as images of one size; None: all are one group.
        sizes: of training batches, see `SeededBatches`.
    """

    batch_size: int
    seed: int = 0
    workers: int = 0
    pin_memory: bool = False
    max_bad_files: int | None = 0
    group: Callable[[Any], Hashable] | None = None
    sizes: tuple[int, int] | None = None


@dataclass(eq=False)
class BadFiles:
    """The samples of a run that are left out because one of their files cannot be read. Each is named once.

    Args:
        limit: how many may be left out. None: none, and the message does not offer to allow some, since a test score
            is one over all samples.
    """

    limit: int | None
    names: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)  # found by this process
    log: Callable[[str], None] = tqdm.write

    def add(self, name: str, fault: str) -> None:
        """Count a sample; UserError where it is one too many."""
        if name in self.names:
            return
        if len(self.names) >= (self.limit or 0):
            hints = {None: "", 0: " (--max_bad_files N leaves out up to N such samples)"}
            raise UserError(fault + hints.get(self.limit, f" (--max_bad_files {self.limit} were left out before)"))
        self.names.append(name)
        self.faults.append((name, fault))
        self.log(f"left out, {len(self.names)} of at most {self.limit}: {fault}")

    def merge(self, ranks: Ranks) -> None:
        """Count what each rank has left out, where ranks have read different samples."""
        for name, fault in ranks.all_gather(self.faults):
            self.add(name, fault)


class Samples(Protocol):
    """A torch Dataset whose samples are made of records with names."""

    records: Sequence[Any]

    def __getitem__(self, key: Key) -> Sample: ...


@dataclass(eq=False)
class _Readable(Dataset):
    """The same samples; a sample that cannot be read is replaced by (its name, what is wrong)."""

    dataset: Samples

    def __getitem__(self, key: Key) -> Sample | tuple[str, str]:
        try:
            return self.dataset[key]
        except UserError as error:
            return self.dataset.records[key[0]].name, str(error)


def _collate_readable(collate: Collate, samples: list[Sample | tuple[str, str]]) -> tuple[Sample | None, list]:
    whole = [sample for sample in samples if isinstance(sample, dict)]
    faults = [sample for sample in samples if not isinstance(sample, dict)]
    return collate(whole) if whole else None, faults


class SampleLoader(DataLoader):
    """A DataLoader that leaves out samples that cannot be read; call `set_epoch(epoch)` before each epoch.

    Each batch is as from `collate`, with a "number", its place in the pass, and a "size", its number of samples. Where
    ranks have shares of a batch, they agree on what is left out, and "size" counts the samples of all ranks. A batch of
    which one rank can read nothing is left out as a whole.

    Args:
        dataset: the samples.
        collate: makes a batch of samples.
        options: how batches are made; without `train` their size is at most EVAL_BATCH_SIZE.
        train: shuffle, and drop the last incomplete batch unless it is the only one; each rank gets its share of every
            batch. Otherwise ranks take turns at whole batches, which are the same for any number of ranks.
        bad_files: counts samples that cannot be read; None: the first one is an error.
        required: refuse a pass without a batch.
        ranks: the processes that divide the work; None: all there are.

    Raises:
        UserError: a batch is too small to be shared.
    """

    def __init__(
        self,
        dataset: Samples,
        collate: Collate,
        options: LoaderOptions,
        train: bool,
        bad_files: BadFiles | None = None,
        required: bool = True,
        ranks: Ranks | None = None,
    ):
        ranks, num = distributed.ranks() if ranks is None else ranks, len(dataset.records)
        size = options.batch_size if train else min(options.batch_size, EVAL_BATCH_SIZE)
        groups = None if options.group is None else [options.group(record) for record in dataset.records]
        sizes = options.sizes if train else None
        self.batches = SeededBatches(num, size, options.seed, train, ranks, groups, sizes)
        if train and self.batches.smallest < ranks.count:
            expected = f"expected batches of at least {ranks.count} samples, one for each process"
            hint = " (portrait and landscape images have batches of their own)" if groups else ""
            raise UserError(f"--batchsize {size}: {expected}, found {self.batches.smallest}{hint}")
        super().__init__(
            _Readable(dataset),
            batch_sampler=self.batches,
            collate_fn=partial(_collate_readable, collate),
            num_workers=options.workers,
            pin_memory=options.pin_memory,
            persistent_workers=options.workers > 0,
            worker_init_fn=ignore_signals,
            generator=torch.Generator().manual_seed(options.seed),  # else each epoch takes a number from the global one
        )
        self.least = min(2, size) if train else 1  # batch norm cannot learn from a batch of one
        self.bad_files, self.required = bad_files or BadFiles(None), required
        self.left_at = self.place = (0, 0)  # batches drawn, and of these given: where to begin, and where it is

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass, and begin it at its start."""
        self.batches.set_epoch(epoch)
        self.left_at = self.place = (0, 0)

    def state_dict(self) -> dict:
        """Return the epoch, and how far the current pass is: batches drawn, and of these given."""
        return {"epoch": self.batches.epoch, "place": list(self.place)}

    def load_state_dict(self, state: dict) -> None:
        """Begin the next pass where another one was left, which may have had another number of ranks."""
        self.set_epoch(state["epoch"])
        self.left_at = self.place = tuple(state["place"])

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        (drawn, given), self.left_at, ranks = self.left_at, (0, 0), self.batches.ranks
        self.place, self.batches.start = (drawn, given), drawn
        with _signals_blocked():  # workers that start inherit it, until they ignore signals
            batches = super().__iter__()
        for batch, faults in batches:
            number = drawn if self.batches.train else drawn * ranks.count + ranks.number
            drawn += 1
            size, faults = self._agreed(batch, faults)
            for name, fault in faults:
                self.bad_files.add(name, fault)
            if size and (not faults or size >= self.least):
                given += 1
                self.place = drawn, given
                yield batch | {"number": number, "size": size}
        self.place = 0, 0
        if not given and self.required and (self.batches.train or ranks.count == 1):
            without = ", ".join(self.bad_files.names[:3])
            expected = f"expected a batch of {self.least} or more samples"
            raise UserError(f"{expected}, found none left in this pass: without {without}")

    def _agreed(self, batch: dict[str, Any] | None, faults: list) -> tuple[int, list]:
        """Return the readable samples of a whole batch, 0 where it is left out, and the faults in it."""
        size, ranks = len(batch["file_names"]) if batch else 0, self.batches.ranks
        if ranks.count == 1 or not self.batches.train:
            return size, faults
        size, num_faults, without = ranks.all_reduce_sum(torch.tensor([size, len(faults), int(not batch)])).tolist()
        return 0 if without else size, ranks.all_gather(faults) if num_faults else []


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*IGNORED, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(worker: int) -> None:
    """Leave signals to the training process: terminals and job schedulers send them to its workers, too."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _exit_with_parent(parent: int) -> None:
    """End this worker when its parent sends SIGTERM, as it does at its own end; other senders are ignored."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
