"""From images with masks and a few wishes to a segmentation run's config with nothing left open."""

from __future__ import annotations

import dataclasses
from typing import Any

from gossamer.data import SegmentationDataset
from gossamer.data.preparation.segmentation import (
    SegmentationSurvey,
    choose_image_size,
    fit_preprocessing,
    survey_dataset,
)
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.models import NetworkConfig
from gossamer.profiling.machine import has_fast_bfloat16
from gossamer.training.losses import LOSSES
from gossamer.training.options import TrainOptions
from gossamer.training.recipe import Recipe, choose_segmentation_recipe
from gossamer.training.resolve_model import Choice
from gossamer.training.run_folder import RunConfig

STACK = 3
"""Neighbouring slices of a volume that a network sees, by default."""


def plan_segmentation(
    dataset: SegmentationDataset, wishes: TrainOptions, choice: Choice
) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a segmentation run, and notes on what was chosen for the user.

    Raises:
        GossamerError: the data cannot be trained with, or the wishes do not fit them or each other.
    """
    dataset.require_trainable()
    dataset.require_splits()
    if wishes.class_weights is not None:
        problem = "weighs the images of classification, not the pixels of masks"
        raise GossamerError(ErrorCode.CONFIG, "class_weights", problem, "leave it out; --loss chooses the loss")
    if wishes.thresholds is not None:
        problem = "divides the probabilities of classification, not those of masks"
        raise GossamerError(ErrorCode.CONFIG, "thresholds", problem, "leave it out")
    if wishes.loss is not None and wishes.loss not in LOSSES:
        problem = f"there is no loss {wishes.loss!r} of segmentation"
        raise GossamerError(ErrorCode.CONFIG, "loss", problem, f"use one of {', '.join(LOSSES)}")
    overrides = {key: value for key in ("patch_size", "stem") if (value := getattr(wishes, key)) is not None}
    # A misspelt name is refused before any image is read.
    first = choice.config(**overrides)
    found = survey_dataset(dataset, wishes.seed)
    stack = wishes.stack or (STACK if dataset.volumes else 1)
    if stack > 1 and not dataset.volumes:
        problem = f"{stack} neighbouring slices of pictures"
        raise GossamerError(ErrorCode.CONFIG, "stack", problem, "leave it out, or train on volumes")
    multiple = first.input_requirements.multiple
    window = first.image_size if choice.initial is not None else choose_image_size(found, multiple)
    inference = SlidingWindow(wishes.input_size or window, stack)
    model = choice.config(
        image_size=inference.window,
        in_channels=found.channels * stack,
        num_classes=len(dataset.classes) + (0 if dataset.overlapping else 1),
        **overrides,
    )
    run = RunConfig(
        data=dataset.source,
        layout=dataset.layout,
        data_fingerprint=dataset.fingerprint(),
        classes=dataset.classes,
        multi_label=dataset.overlapping,
        seed=wishes.seed,
        preset=choice.preset,
        model=model,
        preprocessing=fit_preprocessing(dataset, found, wishes.seed),
        recipe=_choose_recipe(dataset, found, model, wishes),
        monitor="val_dice",
        task="segment",
        inference=inference,
        init=None if choice.initial is None else choice.initial.weights,
    )
    return run, (*_notes(dataset, found, run), *choice.notes(model))


def _choose_recipe(
    dataset: SegmentationDataset, found: SegmentationSurvey, model: NetworkConfig, wishes: TrainOptions
) -> Recipe:
    slices = len(dataset.split("train")) * found.slices
    recipe = choose_segmentation_recipe(
        slices, model.image_size, fast_bfloat16=has_fast_bfloat16(), epochs=wishes.epochs
    )
    given: dict[str, Any] = {
        key: getattr(wishes, key)
        for key in ("batch_size", "learning_rate", "patience", "precision", "loss", "recompute")
        if getattr(wishes, key) is not None
    }
    if wishes.flips is not None:
        given["augmentation"] = dataclasses.replace(recipe.augmentation, flips=wishes.flips)
    return dataclasses.replace(recipe, **given)


def _notes(dataset: SegmentationDataset, found: SegmentationSurvey, run: RunConfig) -> tuple[Note, ...]:
    assert run.inference is not None
    notes: list[Note] = []
    if found.spacings_differ:
        step = next(step for step in run.preprocessing.steps if step.name == "respace")
        text = f"pixels lie at different distances; all are brought to {step.rows_mm:g} x {step.columns_mm:g} mm"
        notes.append(Note(ErrorCode.GEOMETRY, dataset.source, text))
    rows, columns = run.inference.window
    if found.largest[0] > rows or found.largest[1] > columns:
        text = f"larger slices are seen in windows of {rows}x{columns} pixels, half of which overlap"
        notes.append(Note(ErrorCode.GEOMETRY, dataset.source, text))
    return tuple(notes)
