"""What the training loop exchanges with the tasks: the job that a task gives it, and the result."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from gossamer.training.module import TrainingModule


@dataclass(frozen=True)
class TrainingJob:
    """The parts of a training that depend on the task.

    Attributes:
        module: Network with its loss, its validation and its optimizer.
        train: Training batches.
        val: Validation batches.
        class_weights: Weight of each class in the loss of classification; empty in segmentation.
    """

    module: TrainingModule
    train: DataLoader[Any]
    val: DataLoader[Any]
    class_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class FitResult:
    """The course of a training.

    Attributes:
        history: Metrics of each epoch.
        best_epoch: Index of the epoch whose weights were kept.
        stopped_early: Whether training stopped before the planned number of epochs, for lack of improvement.
        class_weights: Weight of each class in the loss of classification; empty in segmentation.
    """

    history: tuple[dict[str, float], ...]
    best_epoch: int
    stopped_early: bool
    class_weights: tuple[float, ...]


def count_processes() -> int:
    """Return the number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the number of this process among those of torchrun; 0 for the first one, or without torchrun."""
    return int(os.environ.get("RANK", "0"))
