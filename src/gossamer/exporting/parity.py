"""Parity of a bundle with the trained network, from file to result.

Both predictors run on images of the validation split, each with its own description of the steps, and are compared at
three stages: the results of the preprocessing must be equal bit for bit, the probabilities may differ by rounding, and
the decisions must be equal unless they are that close to a boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gossamer.data import Dataset, Sample
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.difference import ImageDifference
from gossamer.exporting.tasks import EXPORT_TASKS
from gossamer.inference.manifest import Parity
from gossamer.inference.predictor import Predictor


def choose_parity_samples(dataset: Dataset) -> list[Sample]:
    """Return up to 16 images, or 4 volumes, spread evenly over the validation split.

    Raises:
        GossamerError: ``E-MISSING`` without a validation split.
    """
    samples = dataset.split("val")
    count = min(EXPORT_TASKS[dataset.task].count_parity_samples(dataset), len(samples))
    return [samples[place] for place in np.linspace(0, len(samples) - 1, count).round().astype(int)]


def measure_parity(
    reference: Predictor,
    candidate: Predictor,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    strict: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Parity:
    """Return the largest differences of two predictors on the images of some samples.

    Args:
        reference: Predictor of the trained network.
        candidate: Predictor that should give the same results.
        dataset: Data set of the samples.
        samples: Samples to compare on, at least one.
        strict: Whether a difference beyond the tolerance is an error rather than only measured.
        on_progress: Function of the number of images done and their total.

    Raises:
        GossamerError: ``E-INTEGRITY`` for a difference beyond the tolerance, with the image and the stage.
    """
    task = EXPORT_TASKS[reference.task]
    tolerance = task.PARITY_TOLERANCE if strict else 0.0
    logits = probabilities = 0.0
    same = decisions = 0
    for number, sample in enumerate(samples, start=1):
        found = task.compare_image(reference, candidate, dataset.read_image(sample), tolerance)
        logits, probabilities = max(logits, found.logits), max(probabilities, found.probabilities)
        same, decisions = same + found.same, decisions + found.decisions
        if strict and found.failed is not None:
            raise _parity_error(sample.id, found, tolerance)
        on_progress(number, len(samples))
    return Parity(
        images=len(samples),
        logits=logits,
        probabilities=probabilities,
        decisions=same / decisions,
        tolerance=tolerance if strict else None,
    )


def _parity_error(image: str, found: ImageDifference, tolerance: float) -> GossamerError:
    problems = {
        "preprocess": "the preprocessing of the bundle gives other pixels than that of the run",
        "network": f"a probability of the bundle differs by {found.probabilities:.2g}, more than {tolerance:g}",
        "decision": f"{found.decisions - found.same} of {found.decisions} decisions of the bundle differ",
    }
    assert found.failed is not None
    problem = f"{problems[found.failed]} (stage: {found.failed})"
    remedy = "nothing was written; report it and attach the config of the run"
    return GossamerError(ErrorCode.INTEGRITY, image, problem, remedy)
