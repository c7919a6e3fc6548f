"""Places of pixels in millimetres, and the mapping of a grid onto one of another size."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

# Axes whose angle differs more from 90 degrees are sheared: no spacing describes their grid.
MAX_SHEAR_DEGREES = 1.0
MOST_LENGTH = 1e30  # in any unit: anything longer is damage, and its square may overflow

Affine = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Place of a volume in space, and the relation of its memory order to the stored order.

    Memory order is ``(slices, rows, columns)``. Where the orientation is known, slices run towards superior, rows
    towards anterior and columns towards right, as closely as whole axes can: axes are exchanged and mirrored, never
    interpolated. Stored order is that of the file, ``(i, j, k)``, whose first index runs fastest.

    Attributes:
        affine: Stored 4x4 matrix from ``(i, j, k, 1)`` to ``(right, anterior, superior, 1)`` in the stored unit.
        stored_shape: Sizes along ``i``, ``j`` and ``k``.
        axes: Stored axes that run along slices, rows and columns (default: ``k``, ``j``, ``i``).
        flips: Whether memory runs against the stored index along slices, rows and columns (default: no).
        oriented: Whether the file states the directions of the axes (default: True).
        unit_mm: Length of the stored unit in mm (default: 1).
    """

    affine: Affine
    stored_shape: tuple[int, int, int]
    axes: tuple[int, int, int] = (2, 1, 0)
    flips: tuple[bool, bool, bool] = (False, False, False)
    oriented: bool = True
    unit_mm: float = 1.0

    @property
    def memory_shape(self) -> tuple[int, int, int]:
        """Sizes along slices, rows and columns."""
        slices, rows, columns = (self.stored_shape[axis] for axis in self.axes)
        return slices, rows, columns

    @property
    def stored_spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along ``i``, ``j`` and ``k``, in the stored unit."""
        i, j, k = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance in mm of neighbouring voxels along slices, rows and columns."""
        lengths = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0) * self.unit_mm
        slices, rows, columns = (float(lengths[axis]) for axis in self.axes)
        return slices, rows, columns

    def to_memory(self, array: np.ndarray) -> np.ndarray:
        """Return a view of ``(i, j, k, ...)`` as ``(slices, rows, columns, ...)``."""
        turned = array.transpose(*self.axes, *range(3, array.ndim))
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def to_stored(self, array: np.ndarray) -> np.ndarray:
        """Return a view of ``(slices, rows, columns, ...)`` as ``(i, j, k, ...)``: the inverse of ``to_memory``."""
        turned = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return turned.transpose(*np.argsort(self.axes), *range(3, array.ndim))

    def memory_affine_mm(self) -> np.ndarray:
        """Return the 4x4 from ``(slice, row, column, 1)`` to ``(right, anterior, superior, 1)`` in mm."""
        stored = np.zeros((4, 4))
        stored[3, 3] = 1
        for memory_axis, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            stored[axis, memory_axis] = -1 if flip else 1
            stored[axis, 3] = self.stored_shape[axis] - 1 if flip else 0
        place = np.array(self.affine) @ stored
        place[:3] *= self.unit_mm
        return place

    def difference(self, other: Geometry) -> str | None:
        """Return how the grid of ``other`` differs, in words, or None where it is the same.

        Grids are the same if their shapes in memory order are equal and no two corresponding corners are further apart
        than a tenth of the smallest spacing. The stored order of the voxels may differ.
        """
        if self.memory_shape != other.memory_shape:
            shapes = ["x".join(map(str, grid.memory_shape)) for grid in (self, other)]
            return f"{shapes[0]} voxels against {shapes[1]}"
        if self.oriented != other.oriented:
            return "one states its orientation, the other does not"
        apart = corner_distance(self.memory_affine_mm(), other.memory_affine_mm(), self.memory_shape)
        if apart > 0.1 * min(self.spacing_mm):
            return f"the same voxel lies up to {apart:.3g} mm apart"
        return None


def closest_axes(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return the ``axes`` and ``flips`` of a ``Geometry`` that bring ``affine`` closest to memory order."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    superior, anterior, right = 2, 1, 0

    def agreement(axes: tuple[int, ...]) -> float:
        return sum(abs(directions[world, axis]) for world, axis in zip((superior, anterior, right), axes, strict=True))

    slices, rows, columns = max(itertools.permutations(range(3)), key=agreement)
    flips = directions[superior, slices] < 0, directions[anterior, rows] < 0, directions[right, columns] < 0
    return (slices, rows, columns), (bool(flips[0]), bool(flips[1]), bool(flips[2]))


def corner_distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return the largest distance between the places that two 4x4 matrices give a corner voxel of a grid."""
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, size - 1) for size in shape))])
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def affine_fault(affine: np.ndarray) -> str | None:
    """Return why a 4x4 matrix cannot place a grid of boxes, or None where it can."""
    matrix = affine[:3, :3]
    if not (np.abs(affine) < MOST_LENGTH).all():
        return f"the affine holds NaN, infinity or a length above {MOST_LENGTH:g}"
    lengths = np.linalg.norm(matrix, axis=0)
    if not lengths.all():
        return f"axis {int(np.argmin(lengths))} of the affine has the length 0"
    cosines = np.abs((matrix / lengths).T @ (matrix / lengths) - np.eye(3))
    if abs(np.linalg.det(matrix / lengths)) < 1e-3:
        return "the axes of the affine are in one plane"
    if cosines.max() > math.sin(math.radians(MAX_SHEAR_DEGREES)):
        degrees = math.degrees(math.acos(min(1.0, float(cosines.max()))))
        return f"axes of the affine are at {degrees:.1f} degrees to each other, not at 90"
    return None


def fit_within(shape: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, int]:
    """Return the largest ``(rows, columns)`` with the proportions of ``shape`` that fits into ``bounds``."""
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
