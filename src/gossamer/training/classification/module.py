"""Loss and validation of classification: cross-entropy of each image, AUROC of the validation split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from gossamer.data.preparation.classification import PreparedImages
from gossamer.evaluation.classification_metrics import validation_metrics
from gossamer.inference.decisions import compute_probabilities
from gossamer.nn.models import Network
from gossamer.training.batches import Batch, EpochBatches, ValidationShard
from gossamer.training.classification.items import ValidationImages, training_items
from gossamer.training.job import TrainingJob, count_processes, process_rank
from gossamer.training.module import TrainingModule
from gossamer.training.recipe import Recipe
from gossamer.training.run_folder import RunConfig

LARGEST_POSITIVE_WEIGHT = 20.0
"""Largest weight of an image with a rare label: a single image should not decide a step."""
VALIDATION_BATCH = 64


class ClassificationModule(TrainingModule):
    """A network with the loss of classification.

    Args:
        network: Network to train.
        recipe: Recipe of training.
        class_weights: Weight of each class in the loss.
        multi_label: Whether an image may have any number of classes.
        seed: Seed of the run.
        sample_ids: Names of the training images.
        steps: Number of optimizer steps of the whole training.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        class_weights: Sequence[float],
        *,
        multi_label: bool,
        seed: int,
        sample_ids: Sequence[str],
        steps: int,
    ) -> None:
        super().__init__(network, recipe, seed=seed, sample_ids=sample_ids, steps=steps)
        self.multi_label = multi_label
        self.class_weights: Tensor
        self.register_buffer("class_weights", torch.tensor(class_weights), persistent=False)

    def batch_loss(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the images' losses and of the penalty of the network."""
        output = self.network.training_output(batch.images)
        losses = self.sample_losses(output.logits.float(), batch.targets)
        loss = output.task_weight * (losses * batch.shares).sum()
        return loss if output.penalty is None else loss + output.penalty.float() * batch.shares.sum()

    def sample_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted loss of each image: cross-entropy, or the mean of the labels' binary ones."""
        if self.multi_label:
            weights = 1 + targets * (self.class_weights - 1)
            return (weights * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).mean(dim=1)
        return -(self.class_weights * targets * F.log_softmax(logits, dim=1)).sum(dim=1)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Keep the logits of a batch until the end of the epoch."""
        images, targets, indices = batch
        self._validation.append((indices, self.network(images).float(), targets))

    def on_validation_epoch_end(self) -> None:
        """Gather the logits of all processes in the order of the split, and log the metrics."""
        indices, logits, targets = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation = []
        logits, targets = self.gather_rows(indices, logits, targets)
        probabilities = compute_probabilities(logits.float().cpu().numpy(), multi_label=self.multi_label)
        metrics = validation_metrics(probabilities, targets.cpu().numpy(), multi_label=self.multi_label)
        metrics["val_loss"] = float(self.sample_losses(logits, targets).mean())
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()})


def compute_class_weights(counts: Sequence[int], images: int, mode: str, *, multi_label: bool) -> list[float]:
    """Return the weight of each class in the loss.

    Single label: ``images / (classes * count)``, so that all classes have the same total weight and the mean weight is
    1. Multi-label: the weight of an image with the label, ``negatives / positives``, so that images with and without it
    have the same total weight. It is above 1 for a finding that fewer than half of the images have, and at most
    ``LARGEST_POSITIVE_WEIGHT``.

    Args:
        counts: Number of training images with each class.
        images: Number of training images.
        mode: ``balanced``, or ``none`` for equal weights.
        multi_label: Whether an image may have any number of classes.
    """
    if mode == "none":
        return [1.0] * len(counts)
    if multi_label:
        return [min(LARGEST_POSITIVE_WEIGHT, (images - count) / count) if count else 1.0 for count in counts]
    return [images / (len(counts) * count) if count else 0.0 for count in counts]


def build_job(run: RunConfig, network: Network, train: PreparedImages, val: PreparedImages) -> TrainingJob:
    """Return the module and the batches of a training.

    Args:
        run: Config of the run.
        network: Network to train.
        train: Prepared training images.
        val: Prepared validation images.
    """
    recipe, rank, processes = run.recipe, process_rank(), count_processes()
    batches = EpochBatches(len(train.samples), recipe.batch_size, run.seed, rank, processes)
    counts = [int(count) for count in train.targets.sum(axis=0)]
    weights = compute_class_weights(counts, len(train.samples), recipe.class_weights, multi_label=run.multi_label)
    module = ClassificationModule(
        network,
        recipe,
        weights,
        multi_label=run.multi_label,
        seed=run.seed,
        sample_ids=[sample.id for sample in train.samples],
        steps=recipe.epochs * len(batches),
    )
    return TrainingJob(
        module,
        DataLoader(training_items(run, train), batch_sampler=batches),
        DataLoader(
            ValidationImages(val),
            batch_size=VALIDATION_BATCH,
            sampler=ValidationShard(len(val.samples), rank, processes),
        ),
        tuple(weights),
    )
