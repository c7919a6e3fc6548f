"""Export of classifiers: the input of the graph, the comparison on one image, and the texts of the model card."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gossamer.data import ClassificationDataset
from gossamer.data.image import Image
from gossamer.exporting.difference import FailedStage, ImageDifference, largest_difference
from gossamer.inference.classification import ClassificationPredictor
from gossamer.inference.decisions import HALF, chosen_classes, compute_probabilities
from gossamer.inference.manifest import InputSpec, OutputSpec
from gossamer.training.run_folder import RunConfig

PURPOSE = "A network that classifies images"
PREDICT_OUTPUT = "predictions.csv"
TRIVIAL_BASELINE = "predicting the class frequencies"
PARITY_TOLERANCE = 1e-4
"""Largest allowed difference of a probability."""
PARITY_IMAGES = 16
"""Largest number of images that are compared."""


def make_input_spec(run: RunConfig, *, dynamic: bool, stored: str | None) -> InputSpec:
    """Return the description of the network's input.

    Args:
        run: Config of the run.
        dynamic: Whether the graph accepts other numbers of rows and columns.
        stored: Type of the stored values of the training images; None for any.
    """
    model = run.model
    return InputSpec(
        channels=model.in_channels,
        window=model.image_size,
        dynamic=dynamic,
        multiple=model.input_requirements.multiple,
        stored=stored,
    )


def count_parity_samples(dataset: ClassificationDataset) -> int:
    """Return the largest number of samples that are compared."""
    return PARITY_IMAGES


def compare_image(
    reference: ClassificationPredictor, candidate: ClassificationPredictor, image: Image, tolerance: float
) -> ImageDifference:
    """Return the difference of two classifiers on one image.

    Args:
        reference: Predictor of the trained network.
        candidate: Predictor that should give the same result.
        image: Image to compare on.
        tolerance: Largest allowed difference of a probability.
    """
    sides = (reference, candidate)
    inputs = [side.preprocessing.network_input(image)[None] for side in sides]
    logits = [side.network(given) for side, given in zip(sides, inputs, strict=True)]
    before, after = (
        compute_probabilities(values, multi_label=side.multi_label) for side, values in zip(sides, logits, strict=True)
    )
    chosen = [
        chosen_classes(values, multi_label=side.multi_label, thresholds=side.thresholds)
        for side, values in ((reference, before), (candidate, after))
    ]
    worst, same = largest_difference(before, after), np.array_equal(chosen[0], chosen[1])
    failed: FailedStage | None = None
    if not np.array_equal(inputs[0], inputs[1]):
        failed = "preprocess"
    elif worst > tolerance:
        failed = "network"
    elif not same and not _is_borderline(reference, before, chosen[0] != chosen[1], tolerance):
        failed = "decision"
    return ImageDifference(largest_difference(logits[0], logits[1]), worst, int(same), 1, failed)


def _is_borderline(
    side: ClassificationPredictor, probabilities: np.ndarray, changed: np.ndarray, tolerance: float
) -> bool:
    """Return whether every changed decision is so close to its boundary that rounding may change it."""
    if side.multi_label:
        cuts = HALF if side.thresholds is None else side.thresholds.array()
        return bool((np.abs(probabilities - cuts)[changed] <= tolerance).all())
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return bool((first - second <= 2 * tolerance).all())


def describe_input(spec: InputSpec, window: str) -> Iterator[str]:
    """Yield the lines of the model card on the images that the network accepts.

    Args:
        spec: Input of the network.
        window: Size that the network sees, as text.
    """
    yield f"- any size; the network sees {window}"


def describe_output(output: OutputSpec) -> Iterator[str]:
    """Yield the lines of the model card on the meaning of the network's output."""
    if output.multi_label:
        yield "A sigmoid for each class; an image has every class whose probability is above its threshold."
    else:
        yield "A softmax over the classes in the order above; the class with the largest probability is predicted."
    thresholds = output.thresholds
    if thresholds is None:
        return
    rule = "F1" if thresholds["rule"] == "f1" else "sensitivity + specificity - 1"
    yield ""
    if output.multi_label:
        yield f"Thresholds, chosen to maximize {rule} on the validation split:"
    else:
        yield "The threshold below does not change predictions: `gossamer evaluate` reports sensitivity, specificity"
        yield f"and F1 of the label at this threshold. It maximizes {rule} on the validation split:"
    yield ""
    yield "| label | threshold |"
    yield "|---|---|"
    yield from (
        f"| {label} | {value:.4g} |" for label, value in zip(thresholds["labels"], thresholds["values"], strict=True)
    )
