"""From labelled images and options to the config of a classification run."""

from __future__ import annotations

import numpy as np

from gossamer.data import ClassificationDataset
from gossamer.data.preparation.classification import (
    ClassificationSurvey,
    choose_image_size,
    fit_preprocessing,
    survey_dataset,
)
from gossamer.errors import ErrorCode, Note
from gossamer.nn.models import NetworkConfig, ViTConfig
from gossamer.profiling.machine import has_fast_bfloat16
from gossamer.training.classification.module import LARGEST_POSITIVE_WEIGHT
from gossamer.training.classification.recipe import choose_patch_size, choose_recipe
from gossamer.training.draft import RunDraft, override_recipe, refuse_options
from gossamer.training.options import TrainOptions
from gossamer.training.recipe import Recipe
from gossamer.training.resolve_model import NetworkChoice
from gossamer.training.run_folder import RunConfig

# Below this many training images the recipe changes the published network in two ways: a convolutional stem, since a
# patch stem needs far more to learn from, and blocks that start near the identity. docs/decisions/0005 has the figures.
FEW_IMAGES = 100_000
SMALL_DATA_LAYER_SCALE = 0.1
MILD_IMBALANCE = 1.5
"""Ratio of the most frequent class to the rarest one, up to which no note is made."""
_RECIPE_OPTIONS = (
    "epochs", "batch_size", "learning_rate", "patience", "precision", "class_weights", "thresholds", "recompute",
)  # fmt: skip


def draft_run(
    dataset: ClassificationDataset, options: TrainOptions, choice: NetworkChoice, base: RunConfig | None = None
) -> RunDraft[ClassificationSurvey]:
    """Return the network and the recipe of a run.

    Args:
        dataset: Data to train on.
        options: Options of the run.
        choice: Network that the options name.
        base: Config of another run, whose recipe is taken (default: a recipe chosen from the data).

    Raises:
        GossamerError: The data cannot be trained with, or the options contradict it or each other.
    """
    refuse_options(options, ("stack", "loss"), "is an option of segmentation, but the data has class labels")
    dataset.require_trainable()
    dataset.split("val")
    choice.build_config(**options.given("patch_size", "stem"))  # what does not fit is refused before images are read
    found = survey_dataset(dataset, options.seed)
    image_size = options.input_size or choose_input_size(found, options, choice)
    model, notes = build_model(dataset, found, options, choice, image_size)
    images, fast = len(dataset.split("train")), has_fast_bfloat16()
    recipe = choose_recipe(images, fast_bfloat16=fast, epochs=options.epochs) if base is None else base.recipe
    recipe = override_recipe(recipe, options, _RECIPE_OPTIONS)
    notes = (*notes, *_note_imbalance(dataset, recipe))
    return RunDraft(choice, model, recipe, found, notes, kept_images=len(dataset.samples))


def complete_run(
    dataset: ClassificationDataset, options: TrainOptions, draft: RunDraft[ClassificationSurvey]
) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a run, with the preprocessing fitted to the training images, and all notes.

    Raises:
        GossamerError: An image cannot be used.
    """
    run = draft.complete(
        dataset,
        options,
        fit_preprocessing(dataset, draft.found, draft.model.image_size, options.seed),
        multi_label=dataset.multi_label,
        monitor=choose_monitor(_validation_targets(dataset)),
    )
    return run, draft.notes


def choose_input_size(found: ClassificationSurvey, options: TrainOptions, choice: NetworkChoice) -> tuple[int, int]:
    """Return the size of the network's input: its own if weights or layers are bound to it, else the images'.

    Args:
        found: Survey of the training images.
        options: Options of the run.
        choice: Network of the run.
    """
    first = choice.build_config(**options.given("patch_size", "stem"))
    if choice.is_settled or first.input_requirements.fixed_size is not None:
        return first.image_size
    if isinstance(first, ViTConfig):
        return choose_image_size(found, options.patch_size)
    multiple = first.input_requirements.multiple
    return choose_image_size(found, multiple if multiple > 1 else None)


def build_model(
    dataset: ClassificationDataset,
    found: ClassificationSurvey,
    options: TrainOptions,
    choice: NetworkChoice,
    image_size: tuple[int, int],
) -> tuple[NetworkConfig, tuple[Note, ...]]:
    """Return the network of a run at an image size, and notes on what the recipe changed in it.

    Args:
        dataset: Data to train on.
        found: Survey of the training images.
        options: Options of the run.
        choice: Network of the run.
        image_size: ``(rows, columns)`` of the network's input.

    Raises:
        GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED`` if the parts do not fit each other.
    """
    images, notes = len(dataset.split("train")), []
    given = options.given("patch_size", "stem")
    overrides = dict(given)
    if not choice.is_settled and isinstance(choice.described, ViTConfig):
        overrides["patch_size"] = given.get("patch_size") or choose_patch_size(image_size)
        if images < FEW_IMAGES:
            overrides["layer_scale"] = SMALL_DATA_LAYER_SCALE
            if "stem" not in given and overrides["patch_size"] in (1, 2, 4, 8, 16):
                overrides["stem"] = "convolutional"
                text = f"convolutional, since {images} training images are few for the patch stem"
                notes.append(Note(ErrorCode.CONFIG, "stem", f"{text} (--stem patch keeps that)"))
    model = choice.build_config(
        image_size=image_size, in_channels=found.channels, num_classes=len(dataset.classes), **overrides
    )
    if getattr(model, "pooling", None) == "mean" and getattr(choice.described, "pooling", None) == "class_token":
        assert choice.mechanism is not None
        text = f"the mean of the tokens, since {choice.mechanism.name} attention takes no class token"
        notes.append(Note(ErrorCode.CONFIG, "pooling", text))
    return model, (*notes, *choice.describe_transfer(model))


def choose_monitor(targets: np.ndarray) -> str:
    """Return the validation metric that chooses the best epoch.

    Args:
        targets: ``(samples, classes)`` of the validation split, 1 where a sample has a class.

    Returns:
        ``val_auroc`` if some class has images with it and images without it, else ``val_loss``.
    """
    positives = targets.sum(axis=0)
    return "val_auroc" if bool(((positives > 0) & (positives < len(targets))).any()) else "val_loss"


def _validation_targets(dataset: ClassificationDataset) -> np.ndarray:
    samples = dataset.split("val")
    targets = np.zeros((len(samples), len(dataset.classes)))
    for row, sample in enumerate(samples):
        targets[row, list(sample.labels)] = 1
    return targets


def _note_imbalance(dataset: ClassificationDataset, recipe: Recipe) -> list[Note]:
    counts = dataset.class_counts("train")
    images = len(dataset.split("train"))
    # With several labels an image, a label is rare or common compared with the images without it.
    sides = [(count, images - count) for count in counts] if dataset.multi_label else [counts]
    ratio = max(max(side) / max(1, min(side)) for side in sides)
    if ratio < MILD_IMBALANCE:
        return []
    share = ", ".join(f"{name} {count}" for name, count in zip(dataset.classes, counts, strict=True))
    if recipe.class_weights == "none":
        treatment = "the loss does not weight them"
    elif dataset.multi_label:
        limit = f"at most {LARGEST_POSITIVE_WEIGHT:g}"
        treatment = f"the loss weights images with a label by negatives / positives, {limit}"
    else:
        treatment = "the loss weights classes by inverse frequency"
    return [Note(ErrorCode.LABEL, dataset.source, f"classes are imbalanced, {ratio:.1f} to 1 ({share}); {treatment}")]
