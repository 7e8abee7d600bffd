"""The order of training: an endless stream of batches that is a pure function of the seed and the batch's number."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from softscribe.errors import InputError

Draw = tuple[int, int]
"""(number of the draw since training began, index of the item): the first seeds the item's augmentation."""


class BatchStream(Sampler[list[Draw]]):
    """Endless batches over shuffled items: each pass over the items is a new permutation, and passes follow each other without a gap.

    Every batch is full, each item is drawn once per pass, and nothing is remembered between batches: a stream that starts at batch
    `first_batch` goes on exactly where another left off. With several processes each takes its part of a common, larger batch.

    Args:
        item_count: how many items there are.
        batch_size: items per batch and process.
        seed: decides the permutations.
        first_batch: the number of the batch to begin with.
        rank, world_size: which of how many processes this is.

    Raises:
        InputError: there are no items, or the batch size is not positive.

    >>> stream = BatchStream(item_count=3, batch_size=2, seed=0)
    >>> sorted(index for number in range(3) for _, index in stream.batch(number))
    [0, 0, 1, 1, 2, 2]
    """

    def __init__(self, item_count: int, batch_size: int, seed: int, first_batch: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if item_count < 1:
            raise InputError("corpus: the training split is empty. Remedy: give more recordings, or name splits in the manifest.")
        if batch_size < 1:
            raise InputError(f"trainer.batch_size: {batch_size}. Remedy: at least 1.")
        self.item_count = item_count
        self.batch_size = batch_size
        self.seed = seed
        self.first_batch = first_batch
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[Draw]]:
        number = self.first_batch
        while True:
            yield self.batch(number)
            number += 1

    def batch(self, number: int) -> list[Draw]:
        """Return the draws of batch `number` (from 0)."""
        first = (number * self.world_size + self.rank) * self.batch_size
        return [(draw, self._item(draw)) for draw in range(first, first + self.batch_size)]

    def _item(self, draw: int) -> int:
        current_pass, position = divmod(draw, self.item_count)
        return int(np.random.default_rng([self.seed, current_pass]).permutation(self.item_count)[position])
