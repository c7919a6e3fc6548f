"""Export of segmenters: the input of the graph, the comparison on one image, and the texts of the model card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from gossamer.data import SegmentationDataset
from gossamer.data.image import Image
from gossamer.exporting.difference import FailedStage, ImageDifference, largest_difference
from gossamer.inference.decisions import compute_probabilities
from gossamer.inference.manifest import InputSpec, OutputSpec
from gossamer.inference.segmentation import SegmentationPredictor
from gossamer.training.run_folder import RunConfig

PURPOSE = "A network that segments images"
PREDICT_OUTPUT = "masks/"
TRIVIAL_BASELINE = "predicting empty masks"
PARITY_TOLERANCE = 1e-3
"""Largest allowed difference of the probability of a pixel. It is larger than that of an image, since the worst of
millions of pixels is compared, and the large logits of a trained network round more coarsely."""
PARITY_IMAGES, PARITY_VOLUMES = 16, 4
"""Largest number of flat images, or of volumes, that are compared."""
SAME_PIXELS = 0.999
"""Smallest share of equal decisions in an image: blended windows may be very close to a boundary."""


def make_input_spec(run: RunConfig, *, dynamic: bool, stored: str | None) -> InputSpec:
    """Return the description of the network's input.

    Args:
        run: Config of the run.
        dynamic: Whether the graph accepts other numbers of rows and columns.
        stored: Type of the stored values of the training images; None for any.
    """
    model, windows = run.model, run.inference
    assert windows is not None
    return InputSpec(
        channels=model.in_channels // windows.stack,
        window=windows.window,
        dynamic=dynamic,
        multiple=model.input_requirements.multiple,
        stack=windows.stack,
        overlap=windows.overlap,
        stored=stored,
    )


def count_parity_samples(dataset: SegmentationDataset) -> int:
    """Return the largest number of samples that are compared."""
    return PARITY_VOLUMES if dataset.volumes else PARITY_IMAGES


def compare_image(
    reference: SegmentationPredictor, candidate: SegmentationPredictor, image: Image, tolerance: float
) -> ImageDifference:
    """Return the difference of two segmenters on one image, window by window.

    Args:
        reference: Predictor of the trained network.
        candidate: Predictor that should give the same result.
        image: Image or volume to compare on.
        tolerance: Largest allowed difference of the probability of a pixel.
    """
    inputs = [side.preprocessing.network_stack(image) for side in (reference, candidate)]
    same_inputs = reference.windows == candidate.windows and np.array_equal(inputs[0], inputs[1])
    del inputs
    kept: list[np.ndarray] = []
    worst, beyond, seen = [0.0, 0.0], 0, 0

    def check_logits(logits: np.ndarray) -> None:
        nonlocal beyond, seen
        expected = kept.pop(0) if kept else np.full_like(logits, np.nan)  # more windows than the reference has
        before = compute_probabilities(expected, multi_label=reference.multi_label)
        after = compute_probabilities(logits, multi_label=candidate.multi_label)
        worst[0] = max(worst[0], largest_difference(expected, logits))
        worst[1] = max(worst[1], largest_difference(before, after))
        if expected.shape == logits.shape:
            beyond += int((np.abs(before - after) > tolerance).sum())
            seen += logits.size

    first, second = _predict_planes(reference, image, kept.append), _predict_planes(candidate, image, check_logits)
    same = (first == second).all(axis=0) if first.shape == second.shape else np.zeros(1, bool)
    failed: FailedStage | None = None
    if not same_inputs:
        failed = "preprocess"
    elif not np.isfinite(worst[1]) or beyond > (0 if reference.continuous else (1 - SAME_PIXELS) * seen):
        failed = "network"
    elif same.mean() < SAME_PIXELS:
        failed = "decision"
    return ImageDifference(worst[0], worst[1], int(same.sum()), same.size, failed)


def _predict_planes(
    predictor: SegmentationPredictor, image: Image, inspect: Callable[[np.ndarray], None]
) -> np.ndarray:
    """Return the planes of the classes; ``inspect`` is called with the logits of each call of the network."""

    def compute_logits(windows: np.ndarray) -> np.ndarray:
        logits = predictor.network(windows)
        inspect(logits)
        return np.nan_to_num(logits)  # values that are not finite have just been inspected

    return replace(predictor, network=compute_logits).predict(image).planes


def describe_input(spec: InputSpec, window: str) -> Iterator[str]:
    """Yield the lines of the model card on the images that the network accepts.

    Args:
        spec: Input of the network.
        window: Size of a window, as text.
    """
    if spec.stack > 1:
        yield f"- volumes, one slice at a time with its {spec.stack - 1} neighbouring slices, or flat images"
    yield f"- any size; the network sees windows of {window} that overlap by at least {spec.overlap:.0%}"


def describe_output(output: OutputSpec) -> Iterator[str]:
    """Yield the lines of the model card on the meaning of the network's output."""
    if output.multi_label:
        yield "A sigmoid for each class; a pixel has every class whose probability is above one half."
    else:
        yield "A softmax over the background (logit 0) and the classes in the order above; the class with the largest"
        yield "probability is predicted."
    yield "Masks have the size, geometry and format of the image."
