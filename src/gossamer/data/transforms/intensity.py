"""Stored values to the scale that a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gossamer.data.image import Image
from gossamer.errors import ErrorCode, GossamerError


@dataclass(frozen=True)
class ScaleIntensity:
    """Map ``low``..``high`` to 0..1 and clip what lies beyond.

    Attributes:
        low: stored value that becomes 0.
        high: stored value that becomes 1.
        stored: kind of the stored values, such as ``uint8``: an image of another kind is on another scale.

    Raises:
        GossamerError: ``E-VALUE`` for NaN or infinite values, or for values of another kind.
    """

    low: float
    high: float
    stored: str
    name: ClassVar[str] = "scale_intensity"

    def __call__(self, image: Image) -> Image:
        """Return the image with float32 values in 0..1."""
        if image.array.dtype.name != self.stored:
            problem = f"holds {image.array.dtype.name} values, the other images hold {self.stored}"
            raise GossamerError(
                ErrorCode.VALUE, image.source, problem, "convert it, so that the values share one scale"
            )
        array = image.array.astype(np.float32)
        if not np.isfinite(array).all():
            problem = f"holds {int(np.sum(~np.isfinite(array)))} values that are NaN or infinite"
            raise GossamerError(ErrorCode.VALUE, image.source, problem, "replace them or leave the image out")
        return image.with_array(np.clip((array - self.low) / (self.high - self.low), 0.0, 1.0))


@dataclass(frozen=True)
class Standardize:
    """Subtract ``mean`` and divide by ``std``, one number for all channels."""

    mean: float
    std: float
    name: ClassVar[str] = "standardize"

    def __call__(self, image: Image) -> Image:
        """Return the standardized image, float32."""
        return image.with_array((image.array.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std))
