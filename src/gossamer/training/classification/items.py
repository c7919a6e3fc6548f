"""The images that classification trains on and validates with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gossamer.data import ClassificationDataset, Sample
from gossamer.data.preparation.classification import PreparedImages, prepare_split
from gossamer.progress import SILENT, Progress
from gossamer.training.augment import Augmenter
from gossamer.training.batches import Batch, DrawnItem
from gossamer.training.run_folder import RunConfig


class TrainingImages(Dataset[Batch]):
    """The prepared training images, augmented as each is drawn.

    Args:
        split: Prepared training images.
        augmenter: Random changes of an image.
        seed: Seed of the run.
    """

    def __init__(self, split: PreparedImages, augmenter: Augmenter, seed: int) -> None:
        self.split = split
        self.augmenter = augmenter
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split.samples)

    def __getitem__(self, item: DrawnItem) -> Batch:
        image = torch.from_numpy(self.split.images[item.index])
        changed = self.augmenter(image, np.random.SeedSequence([self.seed, item.epoch, 1, item.index]))
        target = torch.from_numpy(self.split.targets[item.index])
        return Batch(changed, target, torch.tensor(item.share), torch.tensor(item.index))


class ValidationImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The prepared validation images, unchanged, with their targets and numbers."""

    def __init__(self, split: PreparedImages) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image, target = self.split.images[index], self.split.targets[index]
        return torch.from_numpy(image), torch.from_numpy(target), torch.tensor(index)


def prepare_samples(
    run: RunConfig, dataset: ClassificationDataset, samples: Sequence[Sample], progress: Progress = SILENT
) -> PreparedImages:
    """Return images and targets of samples as training reads them.

    Raises:
        GossamerError: An image cannot be read or used.
    """
    return prepare_split(dataset, samples, run.preprocessing, run.classes, progress)


def require_classes(run: RunConfig, train: PreparedImages) -> None:
    """Accept any split: labels are checked before images are read."""


def training_items(run: RunConfig, prepared: PreparedImages) -> TrainingImages:
    """Return prepared images with the augmentation of the run."""
    return TrainingImages(prepared, Augmenter(run.recipe.augmentation, run.model.image_size), run.seed)


def sample_input(run: RunConfig, prepared: PreparedImages) -> np.ndarray:
    """Return the first image as the network takes it: ``(1, channels, rows, columns)``, float32."""
    return prepared.images[:1]
