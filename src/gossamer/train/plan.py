"""From a data set and a few wishes to a run's config with nothing left open."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.config import lookup
from gossamer.data.datasets.dataset import Dataset
from gossamer.data.datasets.prepare import Survey, choose_image_size, fit_preprocessing, survey
from gossamer.data.datasets.segmentation import SegmentationDataset
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.measure.machine import has_fast_bfloat16
from gossamer.nn.attention import attention_config
from gossamer.nn.models import PRESETS, NetworkConfig, Task, ViTConfig, list_models, model_config
from gossamer.train.fit import choose_monitor
from gossamer.train.plan_segmentation import plan_segmentation
from gossamer.train.recipe import Flips, Precision, Recipe, choose_patch_size, choose_recipe
from gossamer.train.run import RunConfig

# Below this many training images the recipe changes the published network in two ways: a convolutional stem, since a
# patch stem needs far more to learn from, and blocks that start near the identity. docs/decisions/0005 has the figures.
FEW_IMAGES = 100_000
SMALL_DATA_LAYER_SCALE = 0.1
DEFAULT_MODELS: dict[Task, str] = {"classify": "vit_tiny", "segment": "transunet_small"}
DEFAULT_ATTENTION = "sequence_norm"


@dataclass(frozen=True)
class Wishes:
    """What a user asks for; None leaves the choice to the recipe.

    Attributes:
        task: ``classify`` or ``segment``; what the data are labelled for if left out.
        model: a preset; ``vit_tiny`` for classification and ``transunet_small`` for segmentation if left out.
        attention: a mechanism, by name or as a JSON object with its parameters; ``sequence_norm`` for classification
            and the preset's own for segmentation if left out.
        image_size: ``(rows, columns)`` of the network's input.
        patch_size: side of a patch in pixels.
        stem: ``patch`` or ``convolutional``.
        epochs: passes over the training split.
        batch_size: images of a step, over all processes.
        learning_rate: peak of the schedule.
        patience: epochs without improvement before training stops.
        precision: of products in training.
        flips: which mirror images are allowed in training.
        class_weights: ``balanced`` or ``none``, of classification.
        stack: neighbouring slices of a volume that are seen together, of segmentation.
        loss: of segmentation.
        seed: of everything random.

    Raises:
        GossamerError: ``E-CONFIG`` for a negative seed.
    """

    task: Task | None = None
    model: str | None = None
    attention: str | None = None
    image_size: tuple[int, int] | None = None
    patch_size: int | None = None
    stem: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    patience: int | None = None
    precision: Precision | None = None
    flips: Flips | None = None
    class_weights: str | None = None
    stack: int | None = None
    loss: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise GossamerError(ErrorCode.CONFIG, "seed", f"{self.seed} is negative", "use 0 or more")


def run_name(dataset: Dataset | SegmentationDataset, wishes: Wishes) -> str:
    """Return what a run is called unless its user says otherwise: data, preset, attention, seed.

    Raises:
        GossamerError: ``E-CONFIG``, for a name that does not exist.
    """
    task: Task = "segment" if isinstance(dataset, SegmentationDataset) else "classify"
    preset = wishes.model or DEFAULT_MODELS[task]
    own = getattr(lookup(PRESETS, preset, "model"), "attention", None)
    wanted = wishes.attention or (DEFAULT_ATTENTION if task == "classify" else None)
    attention = attention_config(wanted) if wanted is not None else own
    parts = [Path(dataset.source).stem, preset, *([] if attention is None else [attention.name]), str(wishes.seed)]
    return "-".join(parts)


def plan_run(dataset: Dataset | SegmentationDataset, wishes: Wishes) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a run, and notes on what was chosen for the user.

    Raises:
        GossamerError: the data cannot be trained with, or the wishes do not fit them or each other.
    """
    task: Task = "segment" if isinstance(dataset, SegmentationDataset) else "classify"
    preset = wishes.model or DEFAULT_MODELS[task]
    described = lookup(PRESETS, preset, "model")
    if described.task != task:
        problem = f"{preset} is a network to {described.task}, the data are labelled to {task}"
        fitting = ", ".join(name for name in list_models(task=task) if name.endswith(("_small", "_tiny")))
        raise GossamerError(ErrorCode.CONFIG, "model", problem, f"use one of {fitting}, ...")
    if isinstance(dataset, SegmentationDataset):
        return plan_segmentation(dataset, wishes, preset)
    for key in ("stack", "loss"):
        if getattr(wishes, key) is not None:
            problem = "is an option of segmentation, the data are labelled to classify"
            raise GossamerError(ErrorCode.CONFIG, key, problem, "leave it out")
    attention = wishes.attention or DEFAULT_ATTENTION
    return _plan_classification(dataset, dataclasses.replace(wishes, model=preset, attention=attention))


def _plan_classification(dataset: Dataset, wishes: Wishes) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a classification run, and notes on what was chosen for the user.

    Raises:
        GossamerError: the data cannot be trained with, or the wishes do not fit them or each other.
    """
    assert wishes.model is not None
    dataset.require_trainable()
    dataset.split("val")
    model_config(wishes.model, attention=wishes.attention)  # refuse a misspelt name before any image is read
    found = survey(dataset, wishes.seed)
    image_size = wishes.image_size or choose_image_size(found.shape, wishes.patch_size)
    model, notes = _choose_model(dataset, found, wishes, image_size)
    run = RunConfig(
        data=dataset.source,
        layout=dataset.layout,
        data_fingerprint=dataset.fingerprint(),
        classes=dataset.classes,
        multi_label=dataset.multi_label,
        seed=wishes.seed,
        preset=wishes.model,
        model=model,
        preprocessing=fit_preprocessing(dataset, found, image_size, found.channels, wishes.seed),
        recipe=_choose_recipe(dataset, wishes),
        monitor=choose_monitor(_val_targets(dataset)),
    )
    return run, (*notes, *_balance_notes(dataset, run.recipe))


def _choose_model(
    dataset: Dataset, found: Survey, wishes: Wishes, image_size: tuple[int, int]
) -> tuple[NetworkConfig, list[Note]]:
    overrides: dict[str, Any] = {"patch_size": wishes.patch_size or choose_patch_size(image_size)}
    images, notes = len(dataset.split("train")), []
    if wishes.stem is not None:
        overrides["stem"] = wishes.stem
    elif images < FEW_IMAGES and overrides["patch_size"] in (1, 2, 4, 8, 16):
        overrides["stem"] = "convolutional"
        text = f"convolutional, since {images} training images are few for the patch stem (--stem patch keeps that)"
        notes.append(Note(ErrorCode.CONFIG, "stem", text))
    if images < FEW_IMAGES:
        overrides["layer_scale"] = SMALL_DATA_LAYER_SCALE
    assert wishes.model is not None
    config = model_config(
        wishes.model,
        attention=wishes.attention,
        image_size=image_size,
        in_channels=found.channels,
        num_classes=len(dataset.classes),
        **overrides,
    )
    if isinstance(config, ViTConfig) and config.pooling == "mean":
        text = f"the mean of the tokens, since {config.attention.name} attention takes no class token"
        notes.append(Note(ErrorCode.CONFIG, "pooling", text))
    return config, notes


def _choose_recipe(dataset: Dataset, wishes: Wishes) -> Recipe:
    recipe = choose_recipe(len(dataset.split("train")), fast_bfloat16=has_fast_bfloat16(), epochs=wishes.epochs)
    given = {
        key: getattr(wishes, key)
        for key in ("batch_size", "learning_rate", "patience", "precision", "class_weights")
        if getattr(wishes, key) is not None
    }
    if wishes.flips is not None:
        given["augmentation"] = dataclasses.replace(recipe.augmentation, flips=wishes.flips)
    return dataclasses.replace(recipe, **given)


def _val_targets(dataset: Dataset) -> np.ndarray:
    samples = dataset.split("val")
    targets = np.zeros((len(samples), len(dataset.classes)))
    for row, sample in enumerate(samples):
        targets[row, list(sample.labels)] = 1
    return targets


def _balance_notes(dataset: Dataset, recipe: Recipe) -> list[Note]:
    counts = dataset.class_counts("train")
    ratio = max(counts) / max(1, min(counts))
    if ratio < 1.5:
        return []
    share = ", ".join(f"{name} {count}" for name, count in zip(dataset.classes, counts, strict=True))
    treatment = (
        "the loss weighs classes by inverse frequency" if recipe.class_weights == "balanced" else "left as it is"
    )
    return [Note(ErrorCode.LABEL, dataset.source, f"classes are imbalanced, {ratio:.1f} to 1 ({share}); {treatment}")]
