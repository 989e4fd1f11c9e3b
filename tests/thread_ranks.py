"""Ranks that are threads of this process: what several do together, without the seconds that processes take."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from utils.distributed import Ranks

PATIENCE = 30  # seconds until ranks that do not ask for the same are given up


class Board:
    """Where ranks leave what others ask for."""

    def __init__(self, count: int):
        self.values: list[Any] = [None] * count
        self.barrier = threading.Barrier(count)


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    board: Any = None

    def gather(self, value):
        self.board.values[self.number] = value
        self.board.barrier.wait(PATIENCE)
        values = list(self.board.values)
        self.board.barrier.wait(PATIENCE)
        return values

    def all_reduce_sum(self, numbers: torch.Tensor) -> torch.Tensor:
        return sum(self.gather(numbers))

    def broadcast_from_first(self, make):
        return self.gather(make() if self.first else None)[0]


def together(count: int, work: Callable[[Ranks], Any]) -> list:
    """Return what so many ranks return, by number; raises what the first of them raised."""
    board = Board(count)
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, ThreadRanks(number, count, board=board)) for number in range(count)]
        return [future.result() for future in futures]
