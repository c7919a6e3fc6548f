"""Classification: cross-entropy of each image, AUROC of the validation split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gossamer.evaluation.classification_metrics import validation_metrics
from gossamer.nn.models import Network
from gossamer.training.batches import Batch
from gossamer.training.module import TrainingModule
from gossamer.training.recipe import Recipe

HEAVIEST_POSITIVE = 20.0
"""The largest weight of an image with a rare label: a single one should not decide a step."""


class ClassificationModule(TrainingModule):
    """A network with the loss of classification.

    Args:
        network: what is trained.
        recipe: how.
        class_weights: one weight a class, for the loss.
        multi_label: whether an image may have any number of classes.
        seed: of the run.
        sample_ids: names of the training images.
        steps: optimizer steps of the whole training.
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
        """Return the weighted sum of the images' losses, and what the network adds."""
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
        """Keep the logits of a batch until the epoch is whole."""
        images, targets, indices = batch
        self._validation.append((indices, self.network(images).float(), targets))

    def on_validation_epoch_end(self) -> None:
        """Gather the logits of all processes in the order of the split, and log the metrics."""
        indices, logits, targets = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation = []
        logits, targets = self.gathered(indices, logits, targets)
        metrics = validation_metrics(logits, targets, multi_label=self.multi_label)
        metrics["val_loss"] = float(self.sample_losses(logits, targets).mean())
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()})


def class_weights(counts: Sequence[int], images: int, mode: str, *, multi_label: bool) -> list[float]:
    """Return one weight a class, for training counts.

    Single label: ``images / (classes * count)``, so that classes weigh the same and the mean weight is 1. Multi-label:
    the weight of a positive, ``negatives / positives``, so that those with and without a label weigh the same. It is
    above 1 for a finding that fewer than half of the images have, and at most ``HEAVIEST_POSITIVE``.
    """
    if mode == "none":
        return [1.0] * len(counts)
    if multi_label:
        return [min(HEAVIEST_POSITIVE, (images - count) / count) if count else 1.0 for count in counts]
    return [images / (len(counts) * count) if count else 0.0 for count in counts]
