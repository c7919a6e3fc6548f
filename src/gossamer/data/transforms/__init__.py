"""Steps of a preprocessing, from ``Image`` to ``Image``: the same code in training and in deployment.

Owns the steps and the table ``STEPS`` that JSON is read with: a step is a frozen dataclass with a ``name`` and a
``__call__``. Does not own the choice of steps, which is that of ``data.preparation``.
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
from gossamer.errors import ErrorCode, GossamerError


class Transform(Protocol):
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
    """The steps from the pixels of a file to the input of a network.

    Attributes:
        steps: Steps in order.
    """

    steps: tuple[Any, ...]

    def __call__(self, image: Image) -> Image:
        """Return ``image`` after every step."""
        for step in self.steps:
            image = step(image)
        return image

    def network_input(self, image: Image) -> np.ndarray:
        """Return the prepared pixels as float32 ``(channels, rows, columns)``."""
        if "slices" in image.axes:
            problem = f"is a volume of {image.spatial_shape[0]} slices, the network takes pictures"
            raise GossamerError(ErrorCode.UNSUPPORTED, image.source, problem, "save each slice as a picture")
        array = self(image).array
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        return np.ascontiguousarray(array, dtype=np.float32)

    def network_stack(self, image: Image) -> np.ndarray:
        """Return the prepared slices as float32 ``(slices, channels, rows, columns)``; a picture is one slice."""
        prepared = self(image)
        array = prepared.array if "slices" in prepared.axes else prepared.array[None]
        array = np.moveaxis(array, -1, 1) if "channels" in prepared.axes else array[:, None]
        return np.ascontiguousarray(array, dtype=np.float32)

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Rows and columns of every image after the steps, or None where they depend on the image."""
        size = None
        for step in self.steps:
            if isinstance(step, Resize | Pad):
                size = step.rows, step.columns
            elif isinstance(step, FitWithin | Respace):
                size = None
        return size

    def to_json(self) -> list[dict[str, Any]]:
        """Return the steps as data."""
        return config.to_json(self.steps)

    @classmethod
    def from_json(cls, data: Any, where: str = "preprocessing") -> Preprocessing:
        """Return the preprocessing that ``to_json`` wrote.

        Raises:
            GossamerError: ``E-CONFIG`` for an unknown step or key, or a number out of range.
        """
        steps = []
        for entry in data:
            try:
                kind = config.find_entry(STEPS, entry.get("name"), "preprocessing step")
                steps.append(config.from_json(kind, entry, f"{where}: {entry['name']}"))
            except GossamerError as error:  # a step that checks itself does not know its file
                if error.where.startswith(where):
                    raise
                raise GossamerError(error.code, f"{where}: {error.where}", error.problem, error.remedy) from error
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
    "Transform",
    "nearest_planes",
    "resample_planes",
]
