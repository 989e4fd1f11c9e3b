"""Batches of sample keys that depend on (seed, epoch) only, never on the number of workers or ranks."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from utils.distributed import SINGLE_PROCESS, Ranks

Key = tuple[int, int]  # the index of a sample, and the seed of its draws


class SeededBatches(Sampler[list[Key]]):
    """Yield batches of (index, sample seed). What is in a batch follows from (seed, epoch) alone, not from the ranks.

    Args:
        num: number of samples.
        batch_size: of the whole batch, over all ranks.
        seed: 0 or more.
        train: draw a new order for each epoch, drop the last batch where it is incomplete unless it is the only one,
            and give each rank its share of every batch. Otherwise the order is 0, 1, 2, ..., and ranks take turns at
            whole batches.
        ranks: the processes that divide the work.
    """

    def __init__(self, num: int, batch_size: int, seed: int, train: bool, ranks: Ranks = SINGLE_PROCESS):
        self.num, self.batch_size, self.seed, self.train, self.ranks = num, batch_size, seed, train, ranks
        self.whole = train and num >= batch_size
        self.epoch, self.start = 0, 0  # the next pass leaves out `start` batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass; without this every pass is the same."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of each rank; where ranks take turns, the largest one."""
        num = self.num // self.batch_size if self.whole else -(-self.num // self.batch_size)
        return num if self.train else -(-num // self.ranks.count)

    def __iter__(self) -> Iterator[list[Key]]:
        # NumPy promises that SeedSequence never changes its numbers, unlike its shuffles: sort by one of them instead.
        words = [np.random.SeedSequence((self.seed, self.epoch, i)).generate_state(2).tolist() for i in range(self.num)]
        order = sorted(range(self.num), key=lambda i: words[i][1]) if self.train else range(self.num)
        keys, size = [(i, words[i][0]) for i in order], self.batch_size
        batches = [keys[at : at + size] for at in range(0, self.num, size)]
        batches = batches[: self.num // size] if self.whole else batches
        batches = [self.ranks.shard(batch) for batch in batches] if self.train else self.ranks.stride(batches)
        return iter(batches[self.start :])
