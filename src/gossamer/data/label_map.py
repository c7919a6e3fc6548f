"""The classes of the pixels of an image, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The classes of every pixel, which cannot be changed.

    Attributes:
        planes: Binary masks, bool ``(classes, *spatial)``, without the background; read-only.
        classes: Class names.
        overlapping: Whether a pixel may belong to several classes.
        source: File that the map was read from, for messages.

    Raises:
        ValueError: Planes that do not fit the names, or that overlap although ``overlapping`` is False.
    """

    planes: np.ndarray
    classes: tuple[str, ...]
    overlapping: bool
    source: str

    def __post_init__(self) -> None:
        if self.planes.dtype != bool or self.planes.ndim not in (3, 4) or len(self.planes) != len(self.classes):
            raise ValueError(f"{self.planes.dtype} planes {self.planes.shape} for {len(self.classes)} classes")
        if not self.overlapping and len(self.classes) > 1 and int(self.planes.sum(axis=0, dtype=np.int32).max()) > 1:
            raise ValueError("classes overlap, but overlapping is False")
        frozen = self.planes.view()
        frozen.flags.writeable = False
        object.__setattr__(self, "planes", frozen)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes, the same as those of the image."""
        return self.planes.shape[1:]

    def indices(self) -> np.ndarray:
        """Return class numbers, uint8 ``(*spatial)``: 0 for the background, then the classes from 1.

        Raises:
            ValueError: The classes may overlap.
        """
        if self.overlapping:
            raise ValueError("overlapping classes have no index map")
        indices = np.zeros(self.spatial_shape, dtype=np.uint8)
        for number, plane in enumerate(self.planes, start=1):
            indices[plane] = number
        return indices

    @classmethod
    def from_indices(cls, indices: np.ndarray, classes: tuple[str, ...], source: str) -> LabelMap:
        """Return the map of class numbers: 0 for the background, then the classes from 1."""
        values = np.arange(1, len(classes) + 1).reshape(-1, *[1] * indices.ndim)
        return cls(indices[None] == values, classes, False, source)
