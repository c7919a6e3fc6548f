"""Which images make a batch, on which process, and how they are changed: all of it a function of seed and epoch.

Nothing here keeps random state, so a resumed run, another number of workers and another number of processes see the
same images in the same order with the same changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gossamer.data.preparation.classification import PreparedImages
from gossamer.training.augment import Augmenter


class Draw(NamedTuple):
    """One image of one epoch: its number in the split, and its share of the batch's loss."""

    epoch: int
    index: int
    share: float


class Batch(NamedTuple):
    """What a training step reads."""

    images: Tensor
    targets: Tensor
    shares: Tensor
    indices: Tensor


class EpochBatches(Sampler[list[Draw]]):
    """The batches of an epoch, as one of ``world_size`` processes sees them.

    Every image is drawn once an epoch, or as many of them as ``draws`` says. The shuffled split is cut into batches
    whose sizes differ by one at most, and each batch is dealt out to the processes; where a process would get none, it
    repeats an image with a share of zero.

    Args:
        count: images of the split.
        batch_size: largest number of images of a batch, over all processes.
        seed: of the run.
        rank: which process this is.
        world_size: number of processes.
        draws: images of an epoch, at most ``count``; all of them if left out.
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
        """Say which epoch the next iteration is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Draw]]:
        order = np.random.default_rng([self.seed, self.epoch, 0]).permutation(self.count)[: self.draws]
        for batch in np.array_split(order, self.batches):
            own = batch[self.rank :: self.world_size]
            share = 1 / len(batch)
            yield [Draw(self.epoch, int(i), share) for i in own] or [Draw(self.epoch, int(batch[0]), 0.0)]


class TrainingImages(Dataset[Batch]):
    """The prepared training images, changed at random as each is drawn."""

    def __init__(self, split: PreparedImages, augmenter: Augmenter, seed: int) -> None:
        self.split = split
        self.augmenter = augmenter
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split.samples)

    def __getitem__(self, draw: Draw) -> Batch:
        image = torch.from_numpy(self.split.images[draw.index])
        changed = self.augmenter(image, np.random.SeedSequence([self.seed, draw.epoch, 1, draw.index]))
        target = torch.from_numpy(self.split.targets[draw.index])
        return Batch(changed, target, torch.tensor(draw.share), torch.tensor(draw.index))


class ValidationShard(Sampler[int]):
    """Every ``world_size``-th image, from ``rank`` on; together the processes see each image once."""

    def __init__(self, count: int, rank: int, world_size: int) -> None:
        self.indices = range(rank, count, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class ValidationImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The prepared validation images as they are, with their targets and numbers."""

    def __init__(self, split: PreparedImages) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image, target = self.split.images[index], self.split.targets[index]
        return torch.from_numpy(image), torch.from_numpy(target), torch.tensor(index)
