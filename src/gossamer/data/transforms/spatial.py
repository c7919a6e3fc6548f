"""Resizing and padding on the pixel grid.

Resampling is bilinear with a triangle filter that widens when an image shrinks, so that fine detail is averaged and
not skipped. Samples are centres of equal cells, hence row ``i`` of ``n`` lies at ``(i + 0.5) / n`` of the extent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from gossamer.data.geometry import fit_within, resized_spacing
from gossamer.data.image import Image
from gossamer.errors import ErrorCode, GossamerError


@dataclass(frozen=True)
class Resize:
    """Resample an image to ``rows`` x ``columns``; proportions may change."""

    rows: int
    columns: int
    name: ClassVar[str] = "resize"

    def __call__(self, image: Image) -> Image:
        """Return the resampled image, float32."""
        return _resample(image, (self.rows, self.columns))


@dataclass(frozen=True)
class FitWithin:
    """Resample an image to the largest size within ``rows`` x ``columns`` that keeps its proportions."""

    rows: int
    columns: int
    name: ClassVar[str] = "fit_within"

    def __call__(self, image: Image) -> Image:
        """Return the resampled image, float32."""
        rows, columns = image.spatial_shape
        return _resample(image, fit_within((rows, columns), (self.rows, self.columns)))


@dataclass(frozen=True)
class Pad:
    """Centre an image in ``rows`` x ``columns`` pixels, the border filled with ``value``.

    Raises:
        GossamerError: ``E-GEOMETRY`` for an image that is larger.
    """

    rows: int
    columns: int
    value: float = 0.0
    name: ClassVar[str] = "pad"

    def __call__(self, image: Image) -> Image:
        """Return the padded image."""
        rows, columns = image.spatial_shape
        missing = (self.rows - rows, self.columns - columns)
        if min(missing) < 0:
            problem = f"{rows}x{columns} pixels do not fit into {self.rows}x{self.columns}"
            raise GossamerError(ErrorCode.GEOMETRY, image.source, problem, "resize first")
        if missing == (0, 0):
            return image
        before = [size // 2 for size in missing]
        border = [(b, m - b) for b, m in zip(before, missing, strict=True)] + [(0, 0)] * (image.array.ndim - 2)
        return image.with_array(np.pad(image.array, border, constant_values=self.value))


def _resample(image: Image, shape: tuple[int, int]) -> Image:
    rows, columns = image.spatial_shape
    if (rows, columns) == shape:
        return image.with_array(image.array.astype(np.float32))
    array = np.tensordot(_weights(rows, shape[0]), image.array.astype(np.float32), axes=(1, 0))
    array = np.moveaxis(np.tensordot(_weights(columns, shape[1]), array, axes=(1, 1)), 0, 1)
    return image.with_array(np.ascontiguousarray(array), resized_spacing(image.spacing_mm, image.spatial_shape, shape))


@lru_cache(maxsize=256)
def _weights(size: int, new_size: int) -> np.ndarray:
    """Return the ``(new_size, size)`` matrix of the triangle filter; its rows sum to 1."""
    scale = size / new_size
    radius = max(scale, 1.0)
    centres = (np.arange(new_size) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / radius
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
