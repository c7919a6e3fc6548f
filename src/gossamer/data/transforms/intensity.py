"""Stored values to the scale of a network's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from gossamer.checks import require
from gossamer.data.image import Image
from gossamer.data.transforms.step_checks import LEAST, require_number, require_positive
from gossamer.errors import ErrorCode, GossamerError


@dataclass(frozen=True)
class ScaleIntensity:
    """Map ``low``..``high`` to 0..1 and clip values outside.

    Attributes:
        low: Stored value that becomes 0.
        high: Stored value that becomes 1.
        stored: Type of the stored values, such as ``uint8``: an image of another type has another scale. None where
            values mean the same in every type, such as Hounsfield units.

    Raises:
        GossamerError: ``E-CONFIG`` unless ``low`` is below ``high``, when the step is made; ``E-VALUE`` for NaN or
            infinite values, or for values of another type.
    """

    low: float
    high: float
    stored: str | None
    name: ClassVar[str] = "scale_intensity"

    def __post_init__(self) -> None:
        require_number(self.name, low=self.low, high=self.high)
        problem = f"{self.low} is not below high, {self.high}"
        require(self.high - self.low >= LEAST, f"{self.name}.low", problem, "use the range of the stored values")

    def __call__(self, image: Image) -> Image:
        """Return the image with float32 values in 0..1."""
        if self.stored is not None and image.array.dtype.name != self.stored:
            problem = f"holds {image.array.dtype.name} values, the training images hold {self.stored}"
            raise GossamerError(
                ErrorCode.VALUE, image.source, problem, "convert it to the scale of the training images"
            )
        array = image.array.astype(np.float32)
        _require_finite(array, image.source)
        return image.with_array(np.clip((array - self.low) / (self.high - self.low), 0.0, 1.0))


@dataclass(frozen=True)
class Standardize:
    """Subtract ``mean`` and divide by ``std``.

    Attributes:
        mean: Mean of all channels.
        std: Standard deviation of all channels, above 0.

    Raises:
        GossamerError: ``E-CONFIG`` for a ``std`` that is not above 0, or a number that is not finite, when the step is
            made.
    """

    mean: float
    std: float
    name: ClassVar[str] = "standardize"

    def __post_init__(self) -> None:
        require_number(self.name, mean=self.mean)
        require_positive(self.name, std=self.std)

    def __call__(self, image: Image) -> Image:
        """Return the standardized image, float32."""
        return image.with_array((image.array.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std))


@dataclass(frozen=True)
class StandardizeEach:
    """Give each image, or each slice, the mean 0 and the standard deviation 1, its extremes clipped.

    For images whose values have no common scale, such as magnetic resonance. Each channel has its own mean. Constant
    images become 0.

    Attributes:
        over: ``case`` for the whole image or volume, ``slice`` for every slice alone (default: ``case``).
        percent: Percentile below which, and opposite percentile above which, values are clipped first; 0 to below 50
            (default: 0.5).

    Raises:
        GossamerError: ``E-CONFIG`` for a percentile out of range, when the step is made; ``E-VALUE`` for NaN or
            infinite values.
    """

    over: Literal["case", "slice"] = "case"
    percent: float = 0.5
    name: ClassVar[str] = "standardize_each"

    def __post_init__(self) -> None:
        problem = f"{self.percent} is not in [0, 50)"
        require(0 <= self.percent < 50, f"{self.name}.percent", problem, "use 0.5")

    def __call__(self, image: Image) -> Image:
        """Return the standardized image, float32."""
        array = image.array.astype(np.float32)
        _require_finite(array, image.source)
        first = 1 if self.over == "slice" and "slices" in image.axes else 0
        axes = tuple(range(first, array.ndim - ("channels" in image.axes)))
        low, high = np.percentile(array, (self.percent, 100 - self.percent), axis=axes, keepdims=True)
        array = np.clip(array, low.astype(np.float32), high.astype(np.float32))
        mean, std = (
            array.mean(axis=axes, keepdims=True, dtype=np.float64),
            array.std(axis=axes, keepdims=True, dtype=np.float64),
        )
        scale = np.where(std > 0, 1 / np.where(std > 0, std, 1), 0)
        return image.with_array(((array - mean) * scale).astype(np.float32))


def _require_finite(array: np.ndarray, source: str) -> None:
    if not np.isfinite(array).all():
        problem = f"holds {int(np.sum(~np.isfinite(array)))} values that are NaN or infinite"
        raise GossamerError(ErrorCode.VALUE, source, problem, "replace them, or exclude the image")
