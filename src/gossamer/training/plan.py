"""From a data set and a few wishes to a run's config with nothing left open."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data import ClassificationDataset, SegmentationDataset
from gossamer.data.preparation.classification import (
    ClassificationSurvey,
    choose_image_size,
    fit_preprocessing,
    survey_dataset,
)
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.nn.models import NetworkConfig, ViTConfig
from gossamer.profiling.machine import has_fast_bfloat16
from gossamer.task import TaskName
from gossamer.training.classification import HEAVIEST_POSITIVE
from gossamer.training.loop import choose_monitor
from gossamer.training.options import TrainOptions
from gossamer.training.plan_segmentation import plan_segmentation
from gossamer.training.recipe import Recipe, choose_patch_size, choose_recipe
from gossamer.training.resolve_model import Choice, choose_network
from gossamer.training.run_folder import RunConfig

# Below this many training images the recipe changes the published network in two ways: a convolutional stem, since a
# patch stem needs far more to learn from, and blocks that start near the identity. docs/decisions/0005 has the figures.
FEW_IMAGES = 100_000
SMALL_DATA_LAYER_SCALE = 0.1


def run_name(dataset: ClassificationDataset | SegmentationDataset, wishes: TrainOptions) -> str:
    """Return what a run is called unless its user says otherwise: data, preset, attention, seed.

    Raises:
        GossamerError: ``E-CONFIG``, for a name that does not exist.
    """
    choice = choose_network(_task(dataset), wishes)
    mechanism = [] if choice.mechanism is None else [choice.mechanism.name]
    return "-".join([Path(dataset.source).stem, choice.preset, *mechanism, str(wishes.seed)])


Settle = Callable[[NetworkConfig, Recipe], Recipe]
"""Returns the recipe that a network can be trained with here, or refuses both."""


def plan_run(
    dataset: ClassificationDataset | SegmentationDataset,
    wishes: TrainOptions,
    settle: Settle = lambda model, recipe: recipe,
) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a run, and notes on what was chosen for the user.

    Args:
        dataset: to train on.
        wishes: of the user.
        settle: asked as soon as network and recipe are known, before all images are read at the network's size.

    Raises:
        GossamerError: the data cannot be trained with, or the wishes do not fit them or each other.
    """
    choice = choose_network(_task(dataset), wishes)
    if isinstance(dataset, SegmentationDataset):
        run, notes = plan_segmentation(dataset, wishes, choice)
        return dataclasses.replace(run, recipe=settle(run.model, run.recipe)), notes
    for key in ("stack", "loss"):
        if getattr(wishes, key) is not None:
            problem = "is an option of segmentation, the data are labelled to classify"
            raise GossamerError(ErrorCode.CONFIG, key, problem, "leave it out")
    return _plan_classification(dataset, wishes, choice, settle)


def _plan_classification(
    dataset: ClassificationDataset, wishes: TrainOptions, choice: Choice, settle: Settle
) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a classification run, and notes on what was chosen for the user.

    Raises:
        GossamerError: the data cannot be trained with, or the wishes do not fit them or each other.
    """
    dataset.require_trainable()
    dataset.split("val")
    given = {key: value for key in ("patch_size", "stem") if (value := getattr(wishes, key)) is not None}
    first = choice.config(**given)  # what does not fit is refused before any image is read
    found = survey_dataset(dataset, wishes.seed)
    image_size = wishes.input_size or choose_size(first, found, wishes, choice)
    model, notes = choose_model(dataset, found, given, image_size, choice)
    recipe = settle(model, _choose_recipe(dataset, wishes))
    run = RunConfig(
        data=dataset.source,
        layout=dataset.layout,
        data_fingerprint=dataset.fingerprint(),
        classes=dataset.classes,
        multi_label=dataset.multi_label,
        seed=wishes.seed,
        preset=choice.preset,
        model=model,
        preprocessing=fit_preprocessing(dataset, found, image_size, wishes.seed),
        recipe=recipe,
        monitor=choose_monitor(_val_targets(dataset)),
        init=None if choice.initial is None else choice.initial.weights,
    )
    return run, (*notes, *_balance_notes(dataset, run.recipe))


def choose_size(
    first: NetworkConfig, found: ClassificationSurvey, wishes: TrainOptions, choice: Choice
) -> tuple[int, int]:
    """Return the size of the network's input: its own where weights or layers are bound to it, or the images'."""
    if choice.initial is not None or first.input_requirements.fixed_size is not None:
        return first.image_size
    if isinstance(first, ViTConfig):
        return choose_image_size(found, wishes.patch_size)
    multiple = first.input_requirements.multiple
    return choose_image_size(found, multiple if multiple > 1 else None)


def choose_model(
    dataset: ClassificationDataset,
    found: ClassificationSurvey,
    given: dict[str, Any],
    image_size: tuple[int, int],
    choice: Choice,
) -> tuple[NetworkConfig, list[Note]]:
    """Return the network of a run at this image size, and notes on what the recipe changed in it.

    Raises:
        GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED``, where the parts do not fit each other.
    """
    images, notes = len(dataset.split("train")), []
    overrides = dict(given)
    if choice.initial is None and isinstance(choice.described, ViTConfig):
        overrides["patch_size"] = given.get("patch_size") or choose_patch_size(image_size)
        if images < FEW_IMAGES:
            overrides["layer_scale"] = SMALL_DATA_LAYER_SCALE
            if "stem" not in given and overrides["patch_size"] in (1, 2, 4, 8, 16):
                overrides["stem"] = "convolutional"
                text = f"convolutional, since {images} training images are few for the patch stem"
                notes.append(Note(ErrorCode.CONFIG, "stem", f"{text} (--stem patch keeps that)"))
    model = choice.config(
        image_size=image_size, in_channels=found.channels, num_classes=len(dataset.classes), **overrides
    )
    if getattr(model, "pooling", None) == "mean" and getattr(choice.described, "pooling", None) == "class_token":
        assert choice.mechanism is not None
        text = f"the mean of the tokens, since {choice.mechanism.name} attention takes no class token"
        notes.append(Note(ErrorCode.CONFIG, "pooling", text))
    return model, [*notes, *choice.notes(model)]


def _task(dataset: ClassificationDataset | SegmentationDataset) -> TaskName:
    return "segment" if isinstance(dataset, SegmentationDataset) else "classify"


def _choose_recipe(dataset: ClassificationDataset, wishes: TrainOptions) -> Recipe:
    recipe = choose_recipe(len(dataset.split("train")), fast_bfloat16=has_fast_bfloat16(), epochs=wishes.epochs)
    given = {
        key: getattr(wishes, key)
        for key in ("batch_size", "learning_rate", "patience", "precision", "class_weights", "thresholds", "recompute")
        if getattr(wishes, key) is not None
    }
    if wishes.flips is not None:
        given["augmentation"] = dataclasses.replace(recipe.augmentation, flips=wishes.flips)
    return dataclasses.replace(recipe, **given)


def _val_targets(dataset: ClassificationDataset) -> np.ndarray:
    samples = dataset.split("val")
    targets = np.zeros((len(samples), len(dataset.classes)))
    for row, sample in enumerate(samples):
        targets[row, list(sample.labels)] = 1
    return targets


def _balance_notes(dataset: ClassificationDataset, recipe: Recipe) -> list[Note]:
    counts = dataset.class_counts("train")
    images = len(dataset.split("train"))
    # Labels that an image may have are rare or common beside the images without them, not beside each other.
    sides = [(count, images - count) for count in counts] if dataset.multi_label else [counts]
    ratio = max(max(side) / max(1, min(side)) for side in sides)
    if ratio < 1.5:
        return []
    share = ", ".join(f"{name} {count}" for name, count in zip(dataset.classes, counts, strict=True))
    if recipe.class_weights == "none":
        treatment = "left as it is"
    elif dataset.multi_label:
        treatment = f"the loss weighs images with a label by negatives / positives, at most {HEAVIEST_POSITIVE:g}"
    else:
        treatment = "the loss weighs classes by inverse frequency"
    return [Note(ErrorCode.LABEL, dataset.source, f"classes are imbalanced, {ratio:.1f} to 1 ({share}); {treatment}")]
