"""Resizing and padding in the plane of rows and columns, the same for every slice of a volume.

Resampling is bilinear with a triangle filter that widens when an image shrinks, so that fine detail is averaged and
not skipped. Samples are the centres of equal cells: row ``i`` of ``n`` is at ``(i + 0.5) / n`` of the extent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from gossamer.checks import require
from gossamer.data.geometry import fit_within, resized_spacing
from gossamer.data.image import MAX_FRAME_PIXELS, Image
from gossamer.data.transforms.step_checks import require_frame, require_number, require_positive
from gossamer.errors import ErrorCode, GossamerError

_NEAR = 2**18
"""Number of samples that are resampled together, which fit into the cache."""


@dataclass(frozen=True)
class Resize:
    """Resample an image to ``rows`` x ``columns``; proportions may change.

    Attributes:
        rows: Number of rows, 1 or more.
        columns: Number of columns, 1 or more.

    Raises:
        GossamerError: ``E-CONFIG`` for a size without pixels, or with too many, when the step is made.
    """

    rows: int
    columns: int
    name: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        require_frame(self.name, self.rows, self.columns)

    def __call__(self, image: Image) -> Image:
        """Return the resampled image, float32."""
        return _resample_image(image, (self.rows, self.columns))


@dataclass(frozen=True)
class FitWithin:
    """Resample an image to the largest size within ``rows`` x ``columns`` that keeps its proportions.

    Attributes:
        rows: Largest number of rows, 1 or more.
        columns: Largest number of columns, 1 or more.

    Raises:
        GossamerError: ``E-CONFIG`` for a size without pixels, or with too many, when the step is made.
    """

    rows: int
    columns: int
    name: ClassVar[str] = "fit_within"

    def __post_init__(self) -> None:
        require_frame(self.name, self.rows, self.columns)

    def __call__(self, image: Image) -> Image:
        """Return the resampled image, float32."""
        rows, columns = image.spatial_shape[-2:]
        return _resample_image(image, fit_within((rows, columns), (self.rows, self.columns)))


@dataclass(frozen=True)
class Pad:
    """Centre an image in ``rows`` x ``columns`` pixels.

    Attributes:
        rows: Number of rows, 1 or more.
        columns: Number of columns, 1 or more.
        value: Value of the border (default: 0).

    Raises:
        GossamerError: ``E-CONFIG`` for a size without pixels, or with too many, or a ``value`` that is not finite, when
            the step is made; ``E-GEOMETRY`` for an image that is larger.
    """

    rows: int
    columns: int
    value: float = 0.0
    name: ClassVar[str] = "pad"

    def __post_init__(self) -> None:
        require_frame(self.name, self.rows, self.columns)
        require_number(self.name, value=self.value)

    def __call__(self, image: Image) -> Image:
        """Return the padded image."""
        rows, columns = image.spatial_shape[-2:]
        missing = (self.rows - rows, self.columns - columns)
        if min(missing) < 0:
            problem = f"{rows}x{columns} pixels do not fit into {self.rows}x{self.columns}"
            raise GossamerError(ErrorCode.GEOMETRY, image.source, problem, "resize first")
        if missing == (0, 0):
            return image
        before = [size // 2 for size in missing]
        border = [(0, 0)] * image.array.ndim
        first = image.axes.index("rows")
        border[first : first + 2] = [(b, m - b) for b, m in zip(before, missing, strict=True)]
        return image.with_array(np.pad(image.array, border, constant_values=self.value))


@dataclass(frozen=True)
class Respace:
    """Resample an image to a spacing of ``rows_mm`` and ``columns_mm``; slices stay.

    An image whose spacing is within ``tolerance`` of that stays as it is.

    Attributes:
        rows_mm: Distance of rows in mm, above 0.
        columns_mm: Distance of columns in mm, above 0.
        required: Whether an image must state its spacing; otherwise an image without spacing stays as it is (default:
            True).
        tolerance: Largest ratio of two spacings that count as equal, 1 or more (default: 1.05).

    Raises:
        GossamerError: ``E-CONFIG`` for a distance that is not above 0, or a tolerance below 1, when the step is made;
            ``E-GEOMETRY`` for an image without a required spacing; ``E-LIMIT`` for too many pixels.
    """

    rows_mm: float
    columns_mm: float
    required: bool = True
    tolerance: float = 1.05
    name: ClassVar[str] = "respace"

    def __post_init__(self) -> None:
        require_positive(self.name, rows_mm=self.rows_mm, columns_mm=self.columns_mm, tolerance=self.tolerance)
        require(self.tolerance >= 1, f"{self.name}.tolerance", f"{self.tolerance} is less than 1", "use 1 or more")

    def __call__(self, image: Image) -> Image:
        """Return the resampled image, float32, or the image as it is."""
        if image.spacing_mm is None:
            if not self.required:
                return image
            problem = "does not state the spacing of its pixels in mm, which the model needs"
            raise GossamerError(ErrorCode.GEOMETRY, image.source, problem, "use a format that states it, such as NIfTI")
        ratios = (image.spacing_mm[-2] / self.rows_mm, image.spacing_mm[-1] / self.columns_mm)
        if all(1 / self.tolerance <= ratio <= self.tolerance for ratio in ratios):
            return image
        rows, columns = (
            max(1, round(size * ratio)) for size, ratio in zip(image.spatial_shape[-2:], ratios, strict=True)
        )
        if rows * columns > MAX_FRAME_PIXELS:
            problem = f"would have {rows}x{columns} pixels, too many, of {self.rows_mm}x{self.columns_mm} mm"
            raise GossamerError(ErrorCode.LIMIT, image.source, problem, "check its spacing, or cut it into tiles")
        return _resample_image(image, (rows, columns))


def resample_planes(planes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return ``(..., rows, columns)`` resampled to ``shape``, float32; the inverse of resampling the same extent.

    The filter is narrow, so that few products per sample suffice. They are added up in a fixed order, without the
    threads of a linear algebra library: those would use every processor, whatever the limit is, and would wait for each
    other while another program uses one.
    """
    if planes.shape[-2:] == shape:
        return planes.astype(np.float32, copy=False)
    down, across = _filter_taps(planes.shape[-2], shape[0]), _filter_taps(planes.shape[-1], shape[1])
    flat = planes.reshape(-1, *planes.shape[-2:])
    resampled = np.empty((len(flat), *shape), dtype=np.float32)
    together = max(1, _NEAR // (max(planes.shape[-2], shape[0]) * max(planes.shape[-1], shape[1])))
    for first in range(0, len(flat), together):
        part = flat[first : first + together].astype(np.float32, copy=False)
        turned = np.ascontiguousarray(_sum_weighted_rows(part, down).swapaxes(1, 2))
        resampled[first : first + together] = _sum_weighted_rows(turned, across).swapaxes(1, 2)
    return resampled.reshape(*planes.shape[:-2], *shape)


def nearest_planes(planes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return ``(..., rows, columns)`` with the value of the nearest pixel, never a mixture, as labels need."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(planes.shape[-2:], shape, strict=True)
    )
    return planes[..., rows[:, None], columns]


def _resample_image(image: Image, shape: tuple[int, int]) -> Image:
    array = image.array.astype(np.float32)
    if image.spatial_shape[-2:] == shape:
        return image.with_array(array)
    rows = image.axes.index("rows")
    planes = resample_planes(np.moveaxis(array, (rows, rows + 1), (-2, -1)), shape)
    new_shape = (*image.spatial_shape[:-2], *shape)
    spacing = resized_spacing(image.spacing_mm, image.spatial_shape, new_shape)
    return image.with_array(np.ascontiguousarray(np.moveaxis(planes, (-2, -1), (rows, rows + 1))), spacing)


def _sum_weighted_rows(planes: np.ndarray, taps: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return ``(planes, rows, columns)`` whose rows are weighted sums of rows."""
    rows, weights = taps
    summed = planes[:, rows[0]] * weights[0][:, None]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        part = planes[:, row]
        part *= weight[:, None]
        summed += part
    return summed


@lru_cache(maxsize=256)
def _filter_taps(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples ``(taps, new_size)`` that the triangle filter reaches, and their weights, of sum 1."""
    scale = size / new_size
    radius = max(scale, 1.0)
    centres = (np.arange(new_size) + 0.5) * scale
    first = np.floor(centres - radius - 0.5).astype(int) + 1
    samples = first + np.arange(math.ceil(2 * radius))[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(samples + 0.5 - centres) / radius)
    weights[(samples < 0) | (samples >= size)] = 0
    return np.clip(samples, 0, size - 1), (weights / weights.sum(axis=0)).astype(np.float32)
