"""Where pixels lie in millimetres, and how a grid of one size maps onto a grid of another."""

from __future__ import annotations

import math


def fit_within(shape: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, int]:
    """Return the largest ``(rows, columns)`` with the proportions of ``shape`` that lies within ``bounds``."""
    scale = min(bounds[0] / shape[0], bounds[1] / shape[1])
    rows, columns = (min(bound, max(1, round(size * scale))) for size, bound in zip(shape, bounds, strict=True))
    return rows, columns


def resized_spacing(
    spacing_mm: tuple[float, ...] | None, shape: tuple[int, ...], new_shape: tuple[int, ...]
) -> tuple[float, ...] | None:
    """Return the spacing in mm of a grid of ``new_shape`` that covers the extent of a grid of ``shape``."""
    if spacing_mm is None:
        return None
    return tuple(mm * old / new for mm, old, new in zip(spacing_mm, shape, new_shape, strict=True))


def check_spacing(spacing_mm: tuple[float, ...]) -> None:
    """Raise ``ValueError`` unless every spacing is a positive, finite number of mm."""
    if not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise ValueError(f"spacing {spacing_mm} mm is not positive and finite")
