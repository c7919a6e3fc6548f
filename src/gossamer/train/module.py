"""The training step, the validation step and the optimizer, as Lightning wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluate.metrics import validation_metrics
from gossamer.nn.models import Network
from gossamer.train.batches import Batch
from gossamer.train.recipe import Recipe


class ClassificationModule(pl.LightningModule):
    """A network with the loss of its task.

    Args:
        network: what is trained.
        recipe: how.
        class_weights: one weight a class, for the loss.
        multi_label: whether an image may have any number of classes.
        seed: of the run; the random state of each step follows from it.
        sample_ids: names of the training images, for the message when a loss is not finite.
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
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.multi_label = multi_label
        self.seed = seed
        self.sample_ids = sample_ids
        self.steps = steps
        self.class_weights: Tensor
        self.register_buffer("class_weights", torch.tensor(class_weights), persistent=False)
        self.bad_batch: list[str] = []
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        self._losses = []

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the random state of dropout and stochastic depth, which follows from seed, step and process alone."""
        words = np.random.SeedSequence([self.seed, self.global_step, 2, self.global_rank]).generate_state(2)
        torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch: the mean over all processes, once gradients are averaged.

        Raises:
            GossamerError: ``E-VALUE``, where the loss is not finite, with the images of the batch.
        """
        logits, auxiliary = self.network.training_output(batch.images)
        losses = self.sample_losses(logits.float(), batch.targets)
        loss = (losses * batch.shares).sum() + auxiliary.float() * batch.shares.sum()
        if not torch.isfinite(loss):
            self._refuse(batch, f"the loss is {loss.item()}")
        self._losses.append(loss.detach())
        self._batch = batch
        return loss * self.trainer.world_size

    def sample_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted loss of each image: cross-entropy, or the sum of the labels' binary ones."""
        if self.multi_label:
            weights = 1 + targets * (self.class_weights - 1)
            return (weights * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).mean(dim=1)
        return -(self.class_weights * targets * F.log_softmax(logits, dim=1)).sum(dim=1)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients, and refuse to step on one that is not finite."""
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        if not torch.isfinite(norm):
            self._refuse(self._batch, f"the norm of the gradient is {norm.item()}")

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Keep the logits of a batch until the epoch is whole."""
        images, targets, indices = batch
        self._validation.append((self.network(images).float(), targets, indices))

    def on_validation_epoch_end(self) -> None:
        """Gather the logits of all processes in the order of the split, and log the metrics."""
        logits, targets, indices = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation = []
        if self.trainer.world_size > 1:
            logits, targets, indices = self._gathered(logits, targets, indices)
        metrics = validation_metrics(logits, targets, multi_label=self.multi_label)
        metrics["val_loss"] = float(self.sample_losses(logits, targets).mean())
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()})

    def train_loss(self) -> float:
        """Return the mean loss of the epoch over all processes."""
        own = torch.stack(self._losses).double().mean()
        return float(self._all(own).sum()) if self.trainer.world_size > 1 else float(own)

    def configure_optimizers(self) -> Any:
        """Return AdamW, with decay on weights of linear layers and convolutions alone, and the schedule."""
        decayed, others = parameter_groups(self.network)
        groups = [
            {"params": decayed, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.recipe.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.recipe.rate_at(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _gathered(self, logits: Tensor, targets: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what all processes hold, ordered by index; shards are padded to one length with index -1."""
        longest = int(self._all(torch.tensor(len(indices))).max())
        missing = longest - len(indices)
        logits = self._all(F.pad(logits, (0, 0, 0, missing))).flatten(0, 1)
        targets = self._all(F.pad(targets, (0, 0, 0, missing))).flatten(0, 1)
        indices = self._all(F.pad(indices, (0, missing), value=-1)).flatten(0, 1)
        order = torch.argsort(indices)[int((indices < 0).sum()) :]
        return logits[order], targets[order], indices[order]

    def _all(self, own: Tensor) -> Tensor:
        """Return one tensor of every process, stacked."""
        gathered = self.all_gather(own)
        assert isinstance(gathered, Tensor)
        return gathered

    def _refuse(self, batch: Batch, problem: str) -> None:
        self.bad_batch = [self.sample_ids[int(index)] for index in batch.indices]
        shown = ", ".join(self.bad_batch[:4]) + (
            f" and {len(self.bad_batch) - 4} more" if len(self.bad_batch) > 4 else ""
        )
        raise GossamerError(
            ErrorCode.VALUE,
            f"step {self.global_step}",
            f"{problem} for the batch of {shown}",
            "look at these images, or train with a lower learning rate",
        )


def parameter_groups(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that decay, weights of linear layers and convolutions, and the others."""
    known = {id(module.weight) for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    decayed = [p for p in network.parameters() if id(p) in known and p.requires_grad]
    return decayed, [p for p in network.parameters() if id(p) not in known and p.requires_grad]


def class_weights(counts: Sequence[int], images: int, mode: str, *, multi_label: bool) -> list[float]:
    """Return one weight a class, for training counts.

    Single label: ``images / (classes * count)``, so that classes weigh the same and the mean weight is 1. Multi-label:
    the weight of a positive, ``negatives / positives``, at most 20.
    """
    if mode == "none":
        return [1.0] * len(counts)
    if multi_label:
        return [min(20.0, (images - count) / count) if count else 1.0 for count in counts]
    return [images / (len(counts) * count) if count else 0.0 for count in counts]
