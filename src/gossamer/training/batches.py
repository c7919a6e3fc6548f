"""Which samples make a batch, on which process: a function of seed and epoch.

Nothing here keeps random state, so a resumed run, another number of workers and another number of processes see the
same samples in the same order with the same changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler


class DrawnItem(NamedTuple):
    """One training item of one epoch.

    Attributes:
        epoch: Number of the epoch, from 0.
        index: Number of the item in the training split.
        share: Share of the item in the loss of its batch.
    """

    epoch: int
    index: int
    share: float


class Batch(NamedTuple):
    """What a training step reads.

    Attributes:
        images: ``(batch, channels, rows, columns)``.
        targets: Truth of each image, in the form of the task.
        shares: Share of each image in the loss.
        indices: Number of each image in the training split.
    """

    images: Tensor
    targets: Tensor
    shares: Tensor
    indices: Tensor


class EpochBatches(Sampler[list[DrawnItem]]):
    """The batches of an epoch, as one of ``world_size`` processes sees them.

    Every item is drawn once in an epoch, or ``draws`` of them. The shuffled split is cut into batches whose sizes
    differ by one at most, and each batch is dealt out to the processes; a process that would get none repeats an item
    with a share of zero.

    Args:
        count: Number of items in the split.
        batch_size: Largest number of items in a batch, over all processes.
        seed: Seed of the run.
        rank: Number of this process.
        world_size: Number of processes.
        draws: Number of items in an epoch, at most ``count`` (default: all).
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, draws: int | None = None
    ) -> None:
        self.count = count
        self.draws = min(count, draws or count)
        self.batches = -(-self.draws // batch_size)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    @property
    def sampler(self) -> EpochBatches:
        """This object: where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[DrawnItem]]:
        order = np.random.default_rng([self.seed, self.epoch, 0]).permutation(self.count)[: self.draws]
        for batch in np.array_split(order, self.batches):
            own = batch[self.rank :: self.world_size]
            share = 1 / len(batch)
            yield [DrawnItem(self.epoch, int(i), share) for i in own] or [DrawnItem(self.epoch, int(batch[0]), 0.0)]


class ValidationShard(Sampler[int]):
    """Every ``world_size``-th sample from ``rank`` on; together the processes see each sample once."""

    def __init__(self, count: int, rank: int, world_size: int) -> None:
        self.indices = range(rank, count, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
