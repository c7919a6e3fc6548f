"""How long a trial trains and how much memory it takes, from a few timed steps before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gossamer.data import ClassificationDataset, SegmentationDataset
from gossamer.data.preparation.classification import prepare_split
from gossamer.data.preparation.segmentation import prepare_split as prepare_cases
from gossamer.nn.recompute import recompute_blocks
from gossamer.profiling.latency import measure_latency
from gossamer.profiling.training_memory import forecast_training_memory
from gossamer.profiling.training_step import training_loss
from gossamer.training.augment import Augmenter, MaskAugmenter
from gossamer.training.batches import DrawnItem
from gossamer.training.classification.items import TrainingImages
from gossamer.training.run_folder import RunConfig
from gossamer.training.segmentation.items import TrainingSlices

START_S = 15.0
"""Of a training besides its epochs: the start of a process, reading, evaluation and report."""
EXPORT_S = 40.0
QUANTIZE_S = 60.0
MEASURE_S = 40.0
"""Of a variant. Guesses, which the time that the first of each takes corrects."""
_TIMED_S = 1.5
_MOST_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class TrainingForecast:
    """What a trial of a variant takes.

    Attributes:
        step_s: of a training step, with the reading of its batch.
        epoch_s: of an epoch, with its validation.
        train_s: of the whole training.
        memory_bytes: of the training process; None where it depends on what the network sees.
        parameters: of the network.
    """

    step_s: float
    epoch_s: float
    train_s: float
    memory_bytes: int | None
    parameters: int


@dataclass(frozen=True, kw_only=True)
class TimedSteps:
    """What was timed of a variant: a step, the evaluation of one image, the steps and evaluations of an epoch."""

    step_s: float
    image_s: float
    steps: int
    validated: int
    memory_bytes: int | None
    parameters: int

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch."""
        return self.steps * self.step_s + self.validated * self.image_s

    def forecast(self, epochs: int) -> TrainingForecast:
        """Return what a training of so many epochs takes."""
        return TrainingForecast(
            step_s=self.step_s,
            epoch_s=self.epoch_s,
            train_s=START_S + epochs * self.epoch_s,
            memory_bytes=self.memory_bytes,
            parameters=self.parameters,
        )


def time_training_steps(
    run: RunConfig, dataset: ClassificationDataset | SegmentationDataset, *, base_bytes: int | None
) -> TimedSteps:
    """Time a few steps of a run on random images, and the reading of its batches on its first training images.

    Args:
        run: a trial's.
        dataset: what it is trained on.
        base_bytes: of a process that has loaded what training loads and done nothing; None where it cannot be told.
    """
    reading, drawn, validated = _time_reading(run, dataset)
    network = run.model.build().train()
    network.begin_epoch(0.0)
    if run.recipe.recompute:
        recompute_blocks(network)
    images = torch.randn(run.recipe.batch_size, run.model.in_channels, *run.model.image_size)
    truth = torch.randint(run.model.num_classes, run.model.target_shape(len(images)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=run.recipe.learning_rate)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=run.recipe.precision == "bfloat16"):
            loss = training_loss(network, images, truth)
        loss.backward()
        optimizer.step()

    step_s = _measure_seconds(step)
    network.eval()
    with torch.inference_mode():
        image_s = _measure_seconds(lambda: network(images[:8])) / min(8, len(images))
    needed = forecast_training_memory(
        run.model,
        run.recipe.batch_size,
        bfloat16=run.recipe.precision == "bfloat16",
        recompute=run.recipe.recompute,
    )
    return TimedSteps(
        step_s=step_s + run.recipe.batch_size * reading,
        image_s=image_s,
        steps=-(-drawn // run.recipe.batch_size),
        validated=validated,
        memory_bytes=None if needed is None or base_bytes is None else base_bytes + needed.total,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def _time_reading(run: RunConfig, dataset: ClassificationDataset | SegmentationDataset) -> tuple[float, int, int]:
    """Return the seconds that an image takes until it is in a batch, the images of an epoch, those of its validation.

    Of volumes, the slices of the first training case stand for those of all.
    """
    train, val = dataset.split("train"), dataset.split("val")
    rng = np.random.default_rng(run.seed)
    if isinstance(dataset, ClassificationDataset):
        prepared = prepare_split(dataset, train[: min(len(train), 8)], run.preprocessing, run.classes)
        augmenter = Augmenter(run.recipe.augmentation, run.model.image_size)
        items: TrainingImages | TrainingSlices = TrainingImages(prepared, augmenter, run.seed)
        slices = 1
    else:
        masks = prepare_cases(dataset, train[:1], run.preprocessing)
        assert run.inference is not None
        items = TrainingSlices(
            masks,
            MaskAugmenter(run.recipe.augmentation),
            run.inference,
            foreground=len(run.classes),
            overlapping=run.multi_label,
            seed=run.seed,
        )
        slices = len(items)
    seconds = _measure_seconds(lambda: items[DrawnItem(0, int(rng.integers(len(items))), 1.0)])
    drawn = len(train) * slices
    return seconds, min(drawn, run.recipe.draws or drawn), len(val) * slices


def _measure_seconds(call: Callable[[], object]) -> float:
    """Return the median time of a few calls, warm."""
    return measure_latency(call, seconds=_TIMED_S, min_calls=1, max_calls=_MOST_STEPS, warm_up=1).p50_ms / 1e3
