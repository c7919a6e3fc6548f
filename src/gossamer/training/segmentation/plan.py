"""From images with masks and options to the config of a segmentation run."""

from __future__ import annotations

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
from gossamer.training.draft import RunDraft, override_recipe, refuse_options
from gossamer.training.losses import LOSSES
from gossamer.training.options import TrainOptions
from gossamer.training.resolve_model import NetworkChoice
from gossamer.training.run_folder import RunConfig
from gossamer.training.segmentation.recipe import choose_recipe

DEFAULT_STACK = 3
"""Number of neighbouring slices of a volume that a network sees by default."""
_RECIPE_OPTIONS = ("epochs", "batch_size", "learning_rate", "patience", "precision", "loss", "recompute")


def draft_run(
    dataset: SegmentationDataset, options: TrainOptions, choice: NetworkChoice, base: RunConfig | None = None
) -> RunDraft[SegmentationSurvey]:
    """Return the network and the recipe of a run.

    Args:
        dataset: Data to train on.
        options: Options of the run.
        choice: Network that the options name.
        base: Config of another run, whose recipe and windows are taken (default: chosen from the data).

    Raises:
        GossamerError: The data cannot be trained with, or the options contradict it or each other.
    """
    dataset.require_trainable()
    dataset.require_splits()
    refuse_options(options, ("class_weights", "thresholds"), "is an option of classification, but the data has masks")
    if options.loss is not None and options.loss not in LOSSES:
        problem = f"there is no loss {options.loss!r}"
        raise GossamerError(ErrorCode.CONFIG, "loss", problem, f"use one of {', '.join(LOSSES)}")
    choice.build_config(**options.given("patch_size", "stem"))  # what does not fit is refused before images are read
    found = survey_dataset(dataset, options.seed)
    inference = _choose_inference(dataset, found, options, choice, None if base is None else base.inference)
    model, notes = build_model(dataset, found, options, choice, inference)
    slices, fast = len(dataset.split("train")) * found.slices, has_fast_bfloat16()
    chosen = choose_recipe(slices, model.image_size, fast_bfloat16=fast, epochs=options.epochs)
    recipe = chosen if base is None else base.recipe
    return RunDraft(choice, model, override_recipe(recipe, options, _RECIPE_OPTIONS), found, notes, inference=inference)


def complete_run(
    dataset: SegmentationDataset, options: TrainOptions, draft: RunDraft[SegmentationSurvey]
) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a run, with the preprocessing fitted to the training images, and all notes.

    Raises:
        GossamerError: A case cannot be used.
    """
    preprocessing = fit_preprocessing(dataset, draft.found, options.seed)
    run = draft.complete(dataset, options, preprocessing, multi_label=dataset.overlapping, monitor="val_dice")
    return run, (*_note_geometry(dataset, draft.found, run), *draft.notes)


def choose_input_size(found: SegmentationSurvey, options: TrainOptions, choice: NetworkChoice) -> tuple[int, int]:
    """Return the size of the window: the network's own if weights are bound to it, else that of the slices.

    Args:
        found: Survey of the training cases.
        options: Options of the run.
        choice: Network of the run.
    """
    first = choice.build_config(**options.given("patch_size", "stem"))
    return first.image_size if choice.is_settled else choose_image_size(found, first.input_requirements.multiple)


def build_model(
    dataset: SegmentationDataset,
    found: SegmentationSurvey,
    options: TrainOptions,
    choice: NetworkChoice,
    inference: SlidingWindow,
) -> tuple[NetworkConfig, tuple[Note, ...]]:
    """Return the network of a run, and notes on the weights that it takes over.

    Args:
        dataset: Data to train on.
        found: Survey of the training cases.
        options: Options of the run.
        choice: Network of the run.
        inference: Window and number of neighbouring slices.

    Raises:
        GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED`` if the parts do not fit each other.
    """
    model = choice.build_config(
        image_size=inference.window,
        in_channels=found.channels * inference.stack,
        num_classes=len(dataset.classes) + (0 if dataset.overlapping else 1),
        **options.given("patch_size", "stem"),
    )
    return model, tuple(choice.describe_transfer(model))


def _choose_inference(
    dataset: SegmentationDataset,
    found: SegmentationSurvey,
    options: TrainOptions,
    choice: NetworkChoice,
    base: SlidingWindow | None,
) -> SlidingWindow:
    default = DEFAULT_STACK if dataset.volumes else 1
    stack = options.stack if options.stack is not None else default if base is None else base.stack
    if stack > 1 and not dataset.volumes:
        problem = f"{stack} neighbouring slices are not possible with two-dimensional pictures"
        raise GossamerError(ErrorCode.CONFIG, "stack", problem, "omit stack, or train on volumes")
    window = options.input_size or choose_input_size(found, options, choice)
    return SlidingWindow(window, stack) if base is None else SlidingWindow(window, stack, base.overlap)


def _note_geometry(dataset: SegmentationDataset, found: SegmentationSurvey, run: RunConfig) -> list[Note]:
    notes: list[Note] = []
    if found.spacings_differ:
        step = next(step for step in run.preprocessing.steps if step.name == "respace")
        text = f"images differ in pixel spacing; all are resampled to {step.rows_mm:g} x {step.columns_mm:g} mm"
        notes.append(Note(ErrorCode.GEOMETRY, dataset.source, text))
    rows, columns = run.windows.window
    if found.largest[0] > rows or found.largest[1] > columns:
        text = f"larger slices are seen through windows of {rows}x{columns} pixels that overlap by half"
        notes.append(Note(ErrorCode.GEOMETRY, dataset.source, text))
    return notes
