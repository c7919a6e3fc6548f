"""Metrics of segmentation, a class and a case at a time; distances by MONAI.

A case is a picture, or a volume with all its slices pooled. Conventions for empty masks, since every choice flatters
someone: a class that neither the truth nor the prediction holds says nothing, and is left out (NaN). Where only one of
them holds it, overlaps are 0 and the Hausdorff distance is the diagonal of the image.

*Weighted Jaccard* is the mean over classes weighted by their share of the truth; arXiv 2503.18862 reports a measure of
that name without a definition, and figures must not be compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from gossamer.data.label_map import LabelMap

# Name: how it is shown, and whether larger is better. Distances are in mm, or in pixels where there is no spacing.
MASK_METRICS: dict[str, tuple[str, bool]] = {
    "dice": ("Dice", True),
    "jaccard": ("Jaccard", True),
    "jaccard_weighted": ("Weighted Jaccard", True),
    "hd95": ("95th percentile Hausdorff distance", False),
    "surface_dice": ("Surface Dice", True),
}
WHOLE_CASE = frozenset({"jaccard_weighted"})
"""Metrics with one figure for all classes of a case."""
TOLERANCE = 1.0
"""Of surface Dice, in mm, or in pixels where there is no spacing."""


def case_metrics(
    prediction: LabelMap,
    truth: LabelMap,
    spacing_mm: Sequence[float] | None,
    tolerance: float = TOLERANCE,
    *,
    distances: bool = True,
) -> dict[str, np.ndarray]:
    """Return each metric of ``MASK_METRICS`` for one case: one value a class, NaN where it says nothing.

    Args:
        prediction: masks on the grid of the truth.
        truth: masks.
        spacing_mm: of the grid, or None for pixels.
        tolerance: how far apart surfaces may lie and still agree, in mm or pixels.
        distances: whether to compute the metrics of surfaces too, which take most of the time.
    """
    common = (prediction.planes & truth.planes).reshape(len(truth.classes), -1).sum(axis=1)
    predicted = prediction.planes.reshape(len(truth.classes), -1).sum(axis=1)
    wanted = truth.planes.reshape(len(truth.classes), -1).sum(axis=1)
    values = overlap_metrics(common, predicted, wanted)
    if distances:
        spacing = tuple(spacing_mm) if spacing_mm is not None else (1.0,) * len(truth.spatial_shape)
        surfaces = [
            _surface_metrics(prediction.planes[k], truth.planes[k], spacing, tolerance)
            for k in range(len(truth.classes))
        ]
        values["hd95"], values["surface_dice"] = (np.array(column) for column in zip(*surfaces, strict=True))
    return values


def overlap_metrics(common: np.ndarray, predicted: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Return Dice, Jaccard and weighted Jaccard from counts of pixels, one value a class.

    Weighted Jaccard has one value a case; it stands in the place of each class, NaN where the truth is empty.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = 2 * common / (predicted + wanted)
        jaccard = common / (predicted + wanted - common)
        share = wanted / wanted.sum()
    weighted = np.nansum(share * np.nan_to_num(jaccard)) if wanted.sum() else math.nan
    return {"dice": dice, "jaccard": jaccard, "jaccard_weighted": np.full(len(dice), weighted)}


def _surface_metrics(
    predicted: np.ndarray, wanted: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    """Return the 95th percentile Hausdorff distance and the surface Dice of one class."""
    if not predicted.any() and not wanted.any():
        return math.nan, math.nan
    if not predicted.any() or not wanted.any():
        return math.hypot(*(size * mm for size, mm in zip(wanted.shape, spacing, strict=True))), 0.0
    box = _box(predicted | wanted)
    a, b = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (predicted, wanted))
    hausdorff = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
    agreement = compute_surface_dice(a, b, [tolerance], include_background=True, spacing=spacing)
    return float(hausdorff), float(agreement)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around a mask, one pixel wider on every side that has room, so that edges stay edges."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, int(found[0]) - 1), int(found[-1]) + 2))
    return tuple(box)
