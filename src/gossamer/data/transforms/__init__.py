"""Image to ``Image``: the steps of a preprocessing, the same code in training and in deployment.

``STEPS`` is the table that JSON is read with: a step is one frozen dataclass with a ``name`` and a ``__call__``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from gossamer import config
from gossamer.data.image import Image
from gossamer.data.transforms.channels import Channels
from gossamer.data.transforms.intensity import ScaleIntensity, Standardize, StandardizeEach
from gossamer.data.transforms.spatial import FitWithin, Pad, Resize, Respace, nearest_planes, resample_planes


class Step(Protocol):
    """One step of a preprocessing."""

    name: ClassVar[str]

    def __call__(self, image: Image) -> Image:
        """Return the transformed image."""
        ...


STEPS: dict[str, type[Any]] = {
    step.name: step
    for step in (Channels, Resize, FitWithin, Respace, Pad, ScaleIntensity, Standardize, StandardizeEach)
}


@dataclass(frozen=True)
class Preprocessing:
    """The steps between a file's pixels and a network's input, in order."""

    steps: tuple[Any, ...]

    def __call__(self, image: Image) -> Image:
        """Return ``image`` after every step."""
        for step in self.steps:
            image = step(image)
        return image

    def network_input(self, image: Image) -> np.ndarray:
        """Return the prepared pixels as float32 ``(channels, rows, columns)``."""
        array = self(image).array
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        return np.ascontiguousarray(array, dtype=np.float32)

    def network_stack(self, image: Image) -> np.ndarray:
        """Return the prepared slices as float32 ``(slices, channels, rows, columns)``; a picture is one slice."""
        prepared = self(image)
        array = prepared.array if "slices" in prepared.axes else prepared.array[None]
        array = np.moveaxis(array, -1, 1) if "channels" in prepared.axes else array[:, None]
        return np.ascontiguousarray(array, dtype=np.float32)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the steps as data."""
        return config.to_json(self.steps)

    @classmethod
    def from_json(cls, data: Any, where: str = "preprocessing") -> Preprocessing:
        """Return the preprocessing that ``to_json`` wrote.

        Raises:
            GossamerError: ``E-CONFIG``, for a step or a key that does not exist.
        """
        steps = []
        for entry in data:
            kind = config.lookup(STEPS, entry.get("name"), "preprocessing step")
            steps.append(config.from_json(kind, entry, f"{where}: {entry['name']}"))
        return cls(tuple(steps))


__all__ = [
    "STEPS",
    "Channels",
    "FitWithin",
    "Pad",
    "Preprocessing",
    "Resize",
    "Respace",
    "ScaleIntensity",
    "Standardize",
    "StandardizeEach",
    "Step",
    "nearest_planes",
    "resample_planes",
]
