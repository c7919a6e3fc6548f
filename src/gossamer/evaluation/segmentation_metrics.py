"""Metrics of segmentation, a class and a case at a time.

A case is a picture, or a volume with all its slices pooled. Conventions for empty masks, since every choice favours
some model: a class that is in neither the truth nor the prediction has no value (NaN). A class that is in only one of
them has overlaps of 0 and the diagonal of the image as its Hausdorff distance.

*Weighted Jaccard* is the mean over classes weighted by their share of the truth. arXiv 2503.18862 reports a measure of
that name without a definition; values must not be compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gossamer.data.label_map import LabelMap
from gossamer.evaluation.surfaces import surface_metrics

MASK_METRICS: dict[str, tuple[str, bool]] = {
    "dice": ("Dice", True),
    "jaccard": ("Jaccard", True),
    "jaccard_weighted": ("Weighted Jaccard", True),
    "hd95": ("95th percentile Hausdorff distance", False),
    "surface_dice": ("Surface Dice", True),
}
"""Label of each metric, and whether larger is better. Distances are in mm, or in pixels where there is no spacing."""
WHOLE_CASE = frozenset({"jaccard_weighted"})
"""Metrics with one figure for all classes of a case."""
TOLERANCE = 1.0
"""Default tolerance of surface Dice, in mm, or in pixels where there is no spacing."""


def case_metrics(
    prediction: LabelMap,
    truth: LabelMap,
    spacing_mm: Sequence[float] | None,
    tolerance: float = TOLERANCE,
    *,
    distances: bool = True,
) -> dict[str, np.ndarray]:
    """Return each metric of ``MASK_METRICS`` for one case: one value for each class, NaN where it is undefined.

    Args:
        prediction: Predicted masks on the grid of the truth.
        truth: True masks.
        spacing_mm: Distance of neighbouring pixels along each axis in mm, or None for pixels.
        tolerance: Largest distance at which surfaces agree, in mm or pixels.
        distances: Whether to compute the metrics of surfaces too, which take most of the time.
    """
    common = (prediction.planes & truth.planes).reshape(len(truth.classes), -1).sum(axis=1)
    predicted = prediction.planes.reshape(len(truth.classes), -1).sum(axis=1)
    wanted = truth.planes.reshape(len(truth.classes), -1).sum(axis=1)
    values = overlap_metrics(common, predicted, wanted)
    if distances:
        spacing = tuple(spacing_mm) if spacing_mm is not None else (1.0,) * len(truth.spatial_shape)
        surfaces = [
            _class_surface_metrics(prediction.planes[k], truth.planes[k], spacing, tolerance)
            for k in range(len(truth.classes))
        ]
        values["hd95"], values["surface_dice"] = (np.array(column) for column in zip(*surfaces, strict=True))
    return values


def overlap_metrics(common: np.ndarray, predicted: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Return Dice, Jaccard and weighted Jaccard from counts of pixels, one value for each class.

    Weighted Jaccard has one value for a case; it is repeated for each class, NaN where the truth is empty.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = 2 * common / (predicted + wanted)
        jaccard = common / (predicted + wanted - common)
        share = wanted / wanted.sum()
    weighted = np.nansum(share * np.nan_to_num(jaccard)) if wanted.sum() else math.nan
    return {"dice": dice, "jaccard": jaccard, "jaccard_weighted": np.full(len(dice), weighted)}


def mean_over_classes(table: np.ndarray) -> float:
    """Return the mean over classes of the means over cases, of defined values; NaN if no value is defined.

    Args:
        table: Values ``(cases, classes)``, NaN where undefined.
    """
    columns = [column[~np.isnan(column)] for column in table.T]
    means = [float(column.mean()) for column in columns if column.size]
    return float(np.mean(means)) if means else math.nan


def _class_surface_metrics(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    """Return the 95th percentile Hausdorff distance and the surface Dice of one class."""
    if not predicted.any() and not truth.any():
        return math.nan, math.nan
    if not predicted.any() or not truth.any():
        return math.hypot(*(size * step for size, step in zip(truth.shape, spacing, strict=True))), 0.0
    return surface_metrics(predicted, truth, spacing, tolerance)
