"""Training steps and optimizer that all tasks share, as a Lightning module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.models import Network
from gossamer.summary import list_some
from gossamer.training.batches import Batch
from gossamer.training.recipe import Recipe


class TrainingModule(pl.LightningModule):
    """A network with its optimizer; each task adds its loss and its validation.

    Args:
        network: Network to train.
        recipe: Recipe of training.
        seed: Seed of the run, which determines the random state of each step.
        sample_ids: Names of the training images, for the message if a loss is not finite.
        steps: Number of optimizer steps of the whole training.
    """

    def __init__(self, network: Network, recipe: Recipe, *, seed: int, sample_ids: Sequence[str], steps: int) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.seed = seed
        self.sample_ids = sample_ids
        self.steps = steps
        self.is_final = True
        self.bad_batch: list[str] = []
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, ...]] = []

    @abstractmethod
    def batch_loss(self, batch: Batch) -> Tensor:
        """Return the part of this process in the loss of a batch, in float32; the parts of all processes are summed."""

    def on_train_epoch_start(self) -> None:
        """Clear the losses of the previous epoch, and let the network enter its next stage."""
        self._losses = []
        self.is_final = self.network.begin_epoch(self.current_epoch / self.recipe.epochs)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the random state of dropout and stochastic depth from seed, step and process alone."""
        words = np.random.SeedSequence([self.seed, self.global_step, 2, self.global_rank]).generate_state(2)
        torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch: the mean over all processes, once gradients are averaged.

        Raises:
            GossamerError: ``E-VALUE`` if the loss is not finite, naming the images of the batch.
        """
        loss = self.batch_loss(batch)
        if not torch.isfinite(loss):
            self._refuse(batch, f"the loss is {loss.item()}")
        self._losses.append(loss.detach())
        self._batch = batch
        return loss * self.trainer.world_size

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients, and raise if it is not finite."""
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        if not torch.isfinite(norm):
            self._refuse(self._batch, f"the norm of the gradient is {norm.item()}")

    def train_loss(self) -> float:
        """Return the mean loss of the epoch over all processes."""
        own = torch.stack(self._losses).double().mean()
        return float(self._gather(own).sum()) if self.trainer.world_size > 1 else float(own)

    def configure_optimizers(self) -> Any:
        """Return AdamW, with weight decay of linear layers and convolutions only, and the schedule."""
        decayed, others = parameter_groups(self.network)
        groups = [
            {"params": decayed, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.recipe.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.recipe.rate_at(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def gather_rows(self, indices: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        """Return the rows of all processes, ordered by ``indices``, the number of each row in its split."""
        if self.trainer.world_size > 1:
            longest = int(self._gather(torch.tensor(len(indices))).max())
            missing = longest - len(indices)
            # Shards are padded to one length, with the index -1.
            indices = self._gather(F.pad(indices, (0, missing), value=-1)).flatten(0, 1)
            parts = tuple(
                self._gather(F.pad(part, (0, 0) * (part.ndim - 1) + (0, missing))).flatten(0, 1) for part in parts
            )
        order = torch.argsort(indices)[int((indices < 0).sum()) :]
        return tuple(part[order] for part in parts)

    def _gather(self, own: Tensor) -> Tensor:
        """Return one tensor of every process, stacked."""
        gathered = self.all_gather(own)
        assert isinstance(gathered, Tensor)
        return gathered

    def _refuse(self, batch: Batch, problem: str) -> None:
        self.bad_batch = [self.sample_ids[int(index)] for index in batch.indices]
        raise GossamerError(
            ErrorCode.VALUE,
            f"step {self.global_step}",
            f"{problem} for the batch of {list_some(self.bad_batch)}",
            "inspect these images, or use a lower learning rate",
        )


def parameter_groups(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters with weight decay (weights of linear layers and convolutions), and the others."""
    known = {id(module.weight) for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    decayed = [p for p in network.parameters() if id(p) in known and p.requires_grad]
    return decayed, [p for p in network.parameters() if id(p) not in known and p.requires_grad]
