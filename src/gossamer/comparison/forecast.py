"""Duration and memory of a trial, forecast from a few timed steps before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gossamer.comparison.compare_plan import TrainingForecast
from gossamer.comparison.tasks import TASKS
from gossamer.data import Dataset
from gossamer.nn.recompute import recompute_blocks
from gossamer.profiling.latency import measure_latency
from gossamer.profiling.training_memory import forecast_training_memory
from gossamer.profiling.training_step import training_loss
from gossamer.training.batches import DrawnItem
from gossamer.training.run_folder import RunConfig
from gossamer.training.tasks import training_task

START_S = 15.0
"""Time of a training outside of its epochs, in seconds: start of the process, reading, evaluation and report."""
_TIMED_S = 1.5
_MOST_CALLS = 8
_TIMED_BATCH = 8
"""Number of images of the timed evaluation."""


@dataclass(frozen=True, kw_only=True)
class TimedSteps:
    """Timed work of a variant.

    Attributes:
        step_s: Time of a training step with the reading of its batch, in seconds.
        image_s: Time to evaluate an image, in seconds.
        steps: Number of steps of an epoch.
        validated: Number of images that are evaluated after an epoch.
        memory_bytes: Memory of the training process; None if it depends on the images.
        parameters: Number of parameters of the network.
    """

    step_s: float
    image_s: float
    steps: int
    validated: int
    memory_bytes: int | None
    parameters: int

    @property
    def epoch_s(self) -> float:
        """Time of an epoch in seconds."""
        return self.steps * self.step_s + self.validated * self.image_s

    def forecast(self, epochs: int) -> TrainingForecast:
        """Return the forecast of a training with this number of epochs."""
        return TrainingForecast(
            step_s=self.step_s,
            epoch_s=self.epoch_s,
            train_s=START_S + epochs * self.epoch_s,
            memory_bytes=self.memory_bytes,
            parameters=self.parameters,
        )


@dataclass(frozen=True, kw_only=True)
class _ReadingTime:
    """Time until an image or slice is in a batch, in seconds, and the numbers of images or slices."""

    seconds: float
    train_images: int
    val_images: int


def time_training_steps(run: RunConfig, dataset: Dataset, *, base_bytes: int | None) -> TimedSteps:
    """Time a few steps of a run on random images, and the reading of its batches on its first training images.

    Args:
        run: Configuration of a trial.
        dataset: Data set of the comparison.
        base_bytes: Memory of an idle process that has loaded what training loads; None if it is unknown.
    """
    reading = _time_reading(run, dataset)
    network = run.model.build().train()
    network.begin_epoch(0.0)
    if run.recipe.recompute:
        recompute_blocks(network)
    images = torch.randn(run.recipe.batch_size, run.model.in_channels, *run.model.image_size)
    targets = torch.randint(run.model.num_classes, run.model.target_shape(len(images)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=run.recipe.learning_rate)

    def train_step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=run.recipe.precision == "bfloat16"):
            loss = training_loss(network, images, targets)
        loss.backward()
        optimizer.step()

    step_s = _measure_seconds(train_step)
    network.eval()
    with torch.inference_mode():
        image_s = _measure_seconds(lambda: network(images[:_TIMED_BATCH])) / min(_TIMED_BATCH, len(images))
    needed = forecast_training_memory(
        run.model,
        run.recipe.batch_size,
        bfloat16=run.recipe.precision == "bfloat16",
        recompute=run.recipe.recompute,
    )
    drawn = min(reading.train_images, run.recipe.draws or reading.train_images)
    return TimedSteps(
        step_s=step_s + run.recipe.batch_size * reading.seconds,
        image_s=image_s,
        steps=-(-drawn // run.recipe.batch_size),
        validated=reading.val_images,
        memory_bytes=None if needed is None or base_bytes is None else base_bytes + needed.total,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def _time_reading(run: RunConfig, dataset: Dataset) -> _ReadingTime:
    """Time the reading of the first training samples, which stand for all, as their number of slices does."""
    task, train = training_task(dataset.task), dataset.split("train")
    timed = train[: TASKS[dataset.task].TIMED_SAMPLES]
    items: Any = task.training_items(run, task.prepare_samples(run, dataset, timed))
    generator = np.random.default_rng(run.seed)
    seconds = _measure_seconds(lambda: items[DrawnItem(0, int(generator.integers(len(items))), 1.0)])
    each = len(items) // len(timed)
    return _ReadingTime(seconds=seconds, train_images=len(train) * each, val_images=len(dataset.split("val")) * each)


def _measure_seconds(call: Callable[[], object]) -> float:
    """Return the median time of a few calls after a warm-up, in seconds."""
    return measure_latency(call, seconds=_TIMED_S, min_calls=1, max_calls=_MOST_CALLS, warm_up=1).p50_ms / 1e3
