"""Difference of two predictors on one image, and the stage at which it arises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

FailedStage = Literal["preprocess", "network", "decision"]


@dataclass(frozen=True)
class ImageDifference:
    """Difference of two predictors on one image.

    Attributes:
        logits: Largest absolute difference of a logit.
        probabilities: Largest absolute difference of a probability.
        same: Number of equal decisions.
        decisions: Number of decisions: 1 for an image, or the number of pixels.
        failed: First stage that differs by more than is allowed; None if none does.
    """

    logits: float
    probabilities: float
    same: int
    decisions: int
    failed: FailedStage | None


def largest_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest absolute difference; infinite for other shapes or values that are not finite."""
    if first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("inf")
    return float(np.abs(first - second).max(initial=0.0))
