"""Loss and validation of segmentation: the loss of each batch of windows, Dice of each validation case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from gossamer.data.preparation.segmentation import PreparedCases
from gossamer.data.windows import blend_bands
from gossamer.evaluation.segmentation_metrics import mean_over_classes, overlap_metrics
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.models import AuxiliaryHead, Network
from gossamer.training.batches import Batch, EpochBatches, ValidationShard
from gossamer.training.job import TrainingJob, count_processes, process_rank
from gossamer.training.losses import LOSSES, cross_entropy
from gossamer.training.module import TrainingModule
from gossamer.training.recipe import Recipe
from gossamer.training.run_folder import RunConfig
from gossamer.training.segmentation.items import ValidationCase, ValidationCases, decode_planes, training_items


class SegmentationModule(TrainingModule):
    """A network with the loss of segmentation.

    Args:
        network: Network to train.
        recipe: Recipe of training.
        inference: Windows through which the network sees a case.
        foreground: Number of classes besides the background.
        overlapping: Whether a pixel may belong to several classes.
        seed: Seed of the run.
        sample_ids: Names of the training slices.
        steps: Number of optimizer steps of the whole training.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        inference: SlidingWindow,
        *,
        foreground: int,
        overlapping: bool,
        seed: int,
        sample_ids: Sequence[str],
        steps: int,
    ) -> None:
        super().__init__(network, recipe, seed=seed, sample_ids=sample_ids, steps=steps)
        self.inference = inference
        self.foreground = foreground
        self.overlapping = overlapping

    def batch_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the task, of the auxiliary heads and of the penalty of the network.

        Soft Dice is computed over the images of this process.
        """
        real = batch.shares > 0
        output = self.network.training_output(batch.images)
        logits, targets = output.logits.float()[real], batch.targets[real]
        share = batch.shares.sum()
        if not bool(real.any()):
            return logits.sum() * 0 + sum((head.logits.float().sum() * 0 for head in output.heads), share * 0)
        loss = LOSSES[self.recipe.loss](logits, targets, self.overlapping)
        return output.combine_losses(loss, lambda head: self._head_loss(head, real, targets)) * share

    def validation_step(self, batch: ValidationCase, batch_idx: int) -> None:
        """Segment a case, and keep its counts until the end of the epoch."""
        counts = torch.zeros(3, self.foreground, dtype=torch.float64)
        loss, pixels = 0.0, 0
        # Adjacent windows choose the epoch as well as overlapping ones, in half the time or less.
        for band in blend_bands(batch.slices, self.inference.window, self._predict_windows, overlap=0.0):
            codes = torch.from_numpy(batch.codes[band.slices, band.rows].astype(np.int64))
            probabilities = torch.from_numpy(band.values).clamp(1e-7, 1 - 1e-7)
            truth = decode_planes(codes, self.foreground, self.overlapping)
            if self.overlapping:
                chosen = probabilities > 0.5
                loss -= float(torch.where(truth, probabilities, 1 - probabilities).log().sum()) / self.foreground
            else:
                chosen = decode_planes(probabilities.argmax(dim=1), self.foreground, overlapping=False)
                loss -= float(probabilities.gather(1, codes[:, None]).log().sum())
            pixels += codes.numel()
            counts += torch.stack([(part.sum(dim=(0, 2, 3))) for part in (chosen & truth, chosen, truth)])
        self._validation.append((torch.tensor([batch.index]), counts[None], torch.tensor([loss / pixels]).double()))

    def on_validation_epoch_end(self) -> None:
        """Gather the counts of all processes, and log the mean Dice of cases and classes."""
        indices, counts, losses = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation = []
        counts, losses = self.gather_rows(indices, counts.flatten(1), losses[:, None])
        by_case = [overlap_metrics(*case) for case in counts.reshape(-1, 3, self.foreground).numpy()]
        metrics = {
            f"val_{name}": mean_over_classes(np.array([case[name] for case in by_case])) for name in ("dice", "jaccard")
        }
        metrics = {name: 0.0 if math.isnan(value) else value for name, value in metrics.items()}
        metrics["val_loss"] = float(losses.mean())
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()})

    def _predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Return the probabilities of windows."""
        logits = self.network(torch.from_numpy(windows)).float()
        return (torch.sigmoid(logits) if self.overlapping else torch.softmax(logits, dim=1)).numpy()

    def _head_loss(self, head: AuxiliaryHead, real: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of an auxiliary head over the images that count."""
        logits = head.logits.float()[real]
        measure = cross_entropy if head.loss == "cross_entropy" else LOSSES[self.recipe.loss]
        if head.target == "foreground":
            some = targets.amax(dim=1, keepdim=True).gt(0).float()
            return measure(logits, F.adaptive_max_pool2d(some, logits.shape[2:]).long(), False)
        if logits.shape[2:] != targets.shape[2:]:
            logits = F.interpolate(logits, targets.shape[2:], mode="bilinear", align_corners=False)
        return measure(logits, targets, self.overlapping)


def build_job(run: RunConfig, network: Network, train: PreparedCases, val: PreparedCases) -> TrainingJob:
    """Return the module and the batches of a training.

    Args:
        run: Config of the run.
        network: Network to train.
        train: Prepared training cases.
        val: Prepared validation cases.
    """
    recipe, inference, rank, processes = run.recipe, run.windows, process_rank(), count_processes()
    slices = training_items(run, train)
    batches = EpochBatches(len(slices), recipe.batch_size, run.seed, rank, processes, draws=recipe.draws)
    module = SegmentationModule(
        network,
        recipe,
        inference,
        foreground=len(run.classes),
        overlapping=run.multi_label,
        seed=run.seed,
        sample_ids=slices.slice_names(),
        steps=recipe.epochs * len(batches),
    )
    return TrainingJob(
        module,
        DataLoader(slices, batch_sampler=batches),
        DataLoader(
            ValidationCases(val, inference.stack),
            batch_size=None,
            sampler=ValidationShard(len(val.cases), rank, processes),
            collate_fn=_keep_case,
        ),
    )


def _keep_case(case: Any) -> Any:
    return case
