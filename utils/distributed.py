"""Several processes that learn as one, on one machine or more: torchrun starts them, torch.distributed joins them.

Each takes a share of every training batch and its turns at the batches of an evaluation; the first alone writes. Alone,
a process is a rank of one, and all of this is nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# Ranks wait for each other this long: one may fill a cache, or render a report, that others have no part in. One that
# ends is noticed at once, by its connections.
PATIENCE = timedelta(hours=2)
LOSSES = ("connection closed", "connection reset", "connection refused", "broken pipe", "timed out", "connect timeout")
SECONDS_FOR_REASONS = 3.0  # until the one that ended first has said why


def _torch() -> Any:
    """Return torch, imported where several processes work together: a command that prints its options needs none."""
    import torch.distributed

    return torch


class PeerLostError(Exception):
    """Another process of the job has ended, or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """Processes that work together, as one of them sees them.

    Args:
        number: of this one, from 0.
        count: of all.
        group: of torch.distributed; None: all that were started.
    """

    number: int = 0
    count: int = 1
    group: Any = field(default=None, compare=False)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.number == 0

    def shard(self, items: list[T]) -> list[T]:
        """Return this rank's part of some items: neighbours, as many as others have, or one more."""
        size = len(items)
        return items[size * self.number // self.count : size * (self.number + 1) // self.count]

    def stride(self, items: list[T]) -> list[T]:
        """Return every count-th of some items, from this rank's number on."""
        return items[self.number :: self.count]

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        """Return the sum of the ranks' numbers, in a tensor of its own."""
        numbers = numbers.detach().clone()
        if self.count > 1:
            with _losses_named():
                _torch().distributed.all_reduce(numbers, group=self.group)
        return numbers

    def mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return the mean over ranks of each tensor, all of one type, in one exchange."""
        if self.count == 1:
            return tensors
        flat = self.all_reduce_sum(_torch().cat([tensor.reshape(-1) for tensor in tensors])) / self.count
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def gather(self, value: T) -> list[T]:
        """Return what each rank has, by number; every rank gets all. On the CPU, and no secrets: it is pickled."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        with _losses_named():
            _torch().distributed.all_gather_object(values, value, group=self.group)
        return values

    def all_gather(self, items: list[T]) -> list[T]:
        """Return the items of all ranks, in order of the ranks."""
        return [item for own in self.gather(items) for item in own]

    def broadcast_from_first(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes, on every rank; the others wait. A UserError is raised on each."""
        if self.count == 1:
            return make()
        told: list[Any] = [None, None]
        if self.first:
            try:
                told[0] = make()
            except UserError as error:
                told[1] = str(error)
        with _losses_named():
            first = 0 if self.group is None else _torch().distributed.get_global_rank(self.group, 0)
            _torch().distributed.broadcast_object_list(told, src=first, group=self.group)
        if told[1] is not None:
            raise UserError(told[1])
        return told[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.gather(None)


SINGLE_PROCESS = Ranks()


@dataclass(frozen=True)
class _Job:
    """This process's place in what torchrun started; `here`: the ranks of this machine; `store`: to leave word in."""

    everyone: Ranks = SINGLE_PROCESS
    here: Ranks = SINGLE_PROCESS
    store: Any = None


_job = _Job()


def ranks() -> Ranks:
    """Return all processes of the job; this one alone where torchrun did not start it."""
    return _job.everyone


def ranks_here() -> Ranks:
    """Return those of this machine."""
    return _job.here


def is_started() -> bool:
    """Tell whether torchrun started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the ranks that torchrun started inside the block; alone where it did not.

    Raises:
        Lost: another one has ended.
    """
    global _job
    if is_started():
        with _losses_named():
            store, number, count = next(_torch().distributed.rendezvous("env://"))
            backend = "cpu:gloo,cuda:nccl" if _torch().cuda.is_available() else "gloo"
            group = {"store": _torch().distributed.PrefixStore("ranks", store), "rank": number, "world_size": count}
            _torch().distributed.init_process_group(backend, timeout=PATIENCE, **group)
            everyone = Ranks(number, count)
            _job = _Job(everyone, _of_machine(everyone), store)
    with _losses_named() if _job.everyone.count > 1 else contextlib.nullcontext():
        yield


def leave() -> None:
    """Leave the other ranks, once none of them can still ask for something."""
    if _job.everyone.count > 1:
        _job.everyone.barrier()
        _torch().distributed.destroy_process_group()


def _of_machine(everyone: Ranks) -> Ranks:
    """Return the ranks of this machine; every rank makes the groups of all machines."""
    machines = everyone.gather(int(os.environ.get("GROUP_RANK", 0)))
    for machine in dict.fromkeys(machines):
        members = [number for number, own in enumerate(machines) if own == machine]
        group = _torch().distributed.new_group(members, timeout=PATIENCE)
        if everyone.number in members:
            here = Ranks(members.index(everyone.number), len(members), group)
    return here


def is_loss(error: BaseException) -> bool:
    """Tell whether torch.distributed has lost a process: its errors have no class of their own on every backend."""
    network = _torch().distributed.DistNetworkError, _torch().distributed.DistBackendError
    return isinstance(error, network) or any(word in str(error).lower() for word in LOSSES)


@contextlib.contextmanager
def _losses_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_loss(error):
            raise
        raise PeerLostError(str(error).partition("\n")[0][:200]) from error


def say_once(line: str, detail: str = "") -> None:
    """Print an error of this rank, unless another rank has printed the same; `detail` may differ."""
    _count("said anything", 1)
    if _count("said " + hashlib.blake2b(line.encode(), digest_size=8).hexdigest(), 1) == 1:
        print(line + detail, file=sys.stderr, flush=True)


def say_stopped(line: str, saved: bool) -> None:
    """Print why a signal has stopped all ranks: once, and not where another has said that it ended for a reason.

    torchrun sends the same signal to the others where one has ended by itself.
    """
    if saved and not _job.everyone.first:
        return
    if not saved and _job.everyone.count > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(SECONDS_FOR_REASONS)
        if _count("said anything"):
            return
        line += "; where nobody has sent a signal, another process of the job was lost"
    say_once(line)


def say_lost(error: PeerLostError) -> None:
    """Print that a process was lost, once, unless any other has said why it ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which torchrun now sends to all that are left
    time.sleep(SECONDS_FOR_REASONS)
    if _count("said anything") == 0:
        line = "error: another process of the job has ended, or its machine cannot be reached, so this one ends, too; "
        say_once(f"{line}what was saved is whole, and the same command with --resume goes on from it", f" ({error})")


def _count(key: str, more: int = 0) -> int:
    """Add to a number that all ranks share; where nobody keeps it any more, this rank is the only one."""
    if _job.store is None:
        return more
    try:
        return _job.store.add(key, more)
    except RuntimeError:
        return more
