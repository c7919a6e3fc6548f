"""A medical image as a value: pixels, axes, spacing and source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from gossamer.data.geometry import Geometry, check_spacing
from gossamer.errors import Note

SPATIAL_AXES = ("slices", "rows", "columns")
MAX_FRAME_PIXELS = 178_956_970
"""Largest number of pixels of a slice; a file that states more is refused before memory is allocated."""


@dataclass(frozen=True, eq=False)
class Image:
    """An image that cannot be changed.

    Attributes:
        array: Stored values, read-only, in the type of the file.
        axes: Name of each axis of ``array``: ``slices``, ``rows``, ``columns``, then ``channels`` if there are several.
        source: File that the image was read from, for messages.
        spacing_mm: Distance of neighbouring samples along each spatial axis in mm, or None where it is unknown.
        notes: Decisions that were made while reading.
        geometry: Place of the volume in space and the order of its voxels in the file, or None for pictures. It is that
            of the file even after a transform, so that a result can be put back.
        header: Header of the file, which only the reader and the writer of its format understand, or None.

    Raises:
        ValueError: Axes or spacing that do not fit the array.
    """

    array: np.ndarray
    axes: tuple[str, ...]
    source: str
    spacing_mm: tuple[float, ...] | None = None
    notes: tuple[Note, ...] = ()
    geometry: Geometry | None = None
    header: object = None

    def __post_init__(self) -> None:
        allowed = (*SPATIAL_AXES, "channels")
        if len(self.axes) != self.array.ndim or list(self.axes) != [axis for axis in allowed if axis in self.axes]:
            raise ValueError(f"axes {self.axes} do not describe an array of shape {self.array.shape}")
        if self.spacing_mm is not None:
            if len(self.spacing_mm) != len(self.spatial_shape):
                raise ValueError(f"spacing {self.spacing_mm} mm for {len(self.spatial_shape)} spatial axes")
            check_spacing(self.spacing_mm)
        frozen = self.array.view()
        frozen.flags.writeable = False
        object.__setattr__(self, "array", frozen)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes, in order."""
        return tuple(size for size, axis in zip(self.array.shape, self.axes, strict=True) if axis in SPATIAL_AXES)

    @property
    def channels(self) -> int:
        """Number of channels; 1 for a grey image."""
        return self.array.shape[-1] if "channels" in self.axes else 1

    def with_array(self, array: np.ndarray, spacing_mm: tuple[float, ...] | None = None) -> Image:
        """Return the image with other pixels; a last axis after the spatial ones holds channels."""
        spatial = tuple(axis for axis in self.axes if axis in SPATIAL_AXES)
        axes = spatial if array.ndim == len(spatial) else (*spatial, "channels")
        return replace(self, array=array, axes=axes, spacing_mm=spacing_mm or self.spacing_mm)

    def grid_difference(self, other: Image) -> str | None:
        """Return how the grid of ``other`` differs from this one, in words, or None where it is the same."""
        if self.geometry is not None and other.geometry is not None:
            return self.geometry.difference(other.geometry)
        if self.spatial_shape != other.spatial_shape:
            return f"{self.spatial_shape} pixels against {other.spatial_shape}"
        return None

    def fingerprint(self) -> str:
        """Return the SHA-256 of the pixels with their shape and type: equal for exact duplicates only."""
        digest = hashlib.sha256(f"{self.array.shape}{self.array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(self.array).data)
        return digest.hexdigest()
