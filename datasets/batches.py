"""Batches of sample keys that depend on (seed, epoch) only, never on the number of workers or ranks."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from utils.distributed import SINGLE_PROCESS, Ranks

Key = tuple[int, ...]  # the index of a sample, the seed of its draws, and what its batch has drawn, if anything
SIZE_DRAWS = (2,)  # the place of these draws among those that follow from (seed, epoch, batch)


class SeededBatches(Sampler[list[Key]]):
    """Yield batches of (index, sample seed). What is in a batch follows from (seed, epoch) alone, not from the ranks.

    A batch is of one group of samples. Batches are in the order of their first samples.

    Args:
        num: number of samples.
        batch_size: of the whole batch, over all ranks.
        seed: 0 or more.
        train: draw a new order for each epoch, drop the last batch where it is incomplete unless it is the only one,
            and give each rank its share of every batch. Otherwise the order is 0, 1, 2, ..., and ranks take turns at
            whole batches. All this is done for each group.
        ranks: the processes that divide the work.
        groups: of each sample; None: all are one group.
        sizes: (lowest, highest) of whole numbers, of which each batch draws one, third in its keys; None: none.
    """

    def __init__(
        self,
        num: int,
        batch_size: int,
        seed: int,
        train: bool,
        ranks: Ranks = SINGLE_PROCESS,
        groups: Sequence[Hashable] | None = None,
        sizes: tuple[int, int] | None = None,
    ):
        self.num, self.batch_size, self.seed, self.train, self.ranks = num, batch_size, seed, train, ranks
        self.groups, self.sizes = [None] * num if groups is None else groups, sizes
        self.counts = Counter(self.groups).values()
        self.epoch, self.start = 0, 0  # the next pass leaves out `start` batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass; without this every pass is the same."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of each rank; where ranks take turns, the largest one."""
        num = sum(map(self._num_batches, self.counts))
        return num if self.train else -(-num // self.ranks.count)

    @property
    def smallest(self) -> int:
        """The number of samples in the smallest batch of a training."""
        return min(self.batch_size, self.num, *self.counts)

    def _num_batches(self, count: int) -> int:
        """Return the batches of a group of `count` samples."""
        return count // self.batch_size if self.train and count >= self.batch_size else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        # NumPy promises that SeedSequence never changes its numbers, unlike its shuffles: sort by one of them instead.
        words = [np.random.SeedSequence((self.seed, self.epoch, i)).generate_state(2).tolist() for i in range(self.num)]
        order = sorted(range(self.num), key=lambda i: words[i][1]) if self.train else range(self.num)
        by_group: dict[Hashable, list[tuple[int, Key]]] = {}
        for place, i in enumerate(order):
            by_group.setdefault(self.groups[i], []).append((place, (i, words[i][0])))
        placed = sorted(batch for members in by_group.values() for batch in self._cut(members))
        batches = [[key for _, key in batch] for batch in placed]
        batches = [self._with_size(batch, number) for number, batch in enumerate(batches)] if self.sizes else batches
        batches = [self.ranks.shard(batch) for batch in batches] if self.train else self.ranks.stride(batches)
        return iter(batches[self.start :])

    def _cut(self, members: list[tuple[int, Key]]) -> list[list[tuple[int, Key]]]:
        size = self.batch_size
        return [members[number * size : (number + 1) * size] for number in range(self._num_batches(len(members)))]

    def _with_size(self, batch: list[Key], number: int) -> list[Key]:
        """Add to the keys of a batch what it draws of `sizes`; `number` is its place in the epoch."""
        low, high = self.sizes
        seeds = np.random.SeedSequence((self.seed, self.epoch, number), spawn_key=SIZE_DRAWS)
        size = low + seeds.generate_state(1).item() % (high - low + 1)
        return [(*key, size) for key in batch]
