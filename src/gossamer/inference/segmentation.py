"""The predictor of masks: an image of any size in, the class of each pixel of its own grid out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import read_image
from gossamer.data.label_map import LabelMap
from gossamer.data.transforms import resample_planes
from gossamer.data.windows import add_neighbours, blend_bands
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import Bundle
from gossamer.inference.decisions import HALF, require_finite
from gossamer.inference.manifest import MANIFEST
from gossamer.inference.predictor import ImageLike, Predictor

NUMBERED_LAYOUT = "decathlon"
"""Layout whose images may be several files, numbered by channel."""


@dataclass(frozen=True)
class SlidingWindow:
    """The windows through which a network sees the slices of an image.

    Attributes:
        window: Rows and columns that the network sees at once, in pixels.
        stack: Number of neighbouring slices that are the network's channels, odd; the slice itself is in the middle.
        overlap: Smallest share of a window that neighbours have in common, in [0, 1).

    Raises:
        GossamerError: ``E-CONFIG`` for an even stack or an overlap outside of [0, 1).
    """

    window: tuple[int, int]
    stack: int = 1
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if self.stack < 1 or self.stack % 2 == 0:
            raise GossamerError(ErrorCode.CONFIG, "stack", f"{self.stack} is not odd and positive", "use 1, 3 or 5")
        if not 0 <= self.overlap < 1:
            raise GossamerError(ErrorCode.CONFIG, "overlap", f"{self.overlap} is not in [0, 1)", "use 0.5")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SegmentationPredictor(Predictor):
    """A trained network with its preprocessing that predicts the masks of an image.

    The background is the first of the network's classes unless classes overlap.

    Attributes:
        windows: Windows and neighbouring slices that the network sees.
        channels: Number of channels of an image, before neighbouring slices are stacked.
        numbered: Whether files named ``<case>_0000``, ``<case>_0001``, ... are the channels of one image.
    """

    task: ClassVar[Literal["segment"]] = "segment"

    windows: SlidingWindow
    channels: int = 1
    numbered: bool = False

    def predict(self, image: ImageLike) -> LabelMap:
        """Return the masks of one image or volume, on its own grid.

        The probabilities of a band of some slices exist at a time; what is kept of it is a byte a pixel, the number of
        its class, or a bit for each class that may overlap others.

        Args:
            image: Image, stored values ``(rows, columns)``, ``(rows, columns, channels)`` for a model of several
                channels, ``(slices, rows, columns)`` for one of a single channel, or the path of a file.

        Raises:
            GossamerError: The image cannot be read or used, or ``E-VALUE`` if its probabilities are not finite.
        """
        opened = self.as_image(image)
        stack = self.preprocessing.network_stack(opened)
        shape = (opened.spatial_shape[-2], opened.spatial_shape[-1])
        lead, kind = ((len(self.classes),), bool) if self.multi_label else ((), np.min_scalar_type(len(self.classes)))
        decided = np.zeros((*lead, len(stack), *shape), dtype=kind)
        resampled = stack.shape[2:] != shape
        parts: list[np.ndarray] = []
        wide = add_neighbours(stack, self.windows.stack)
        del stack
        for band in blend_bands(wide, self.windows.window, self.probabilities, self.windows.overlap):
            require_finite(band.values, opened.source)
            if not resampled:
                decided[..., band.slices, band.rows, :] = self.choose_classes(band.values)
                self.lap("postprocess")
                continue
            parts.append(band.values)
            if band.rows.stop == wide.shape[2]:
                whole = resample_planes(np.concatenate(parts, axis=2), shape)
                decided[..., band.slices, :, :] = self.choose_classes(whole)
                parts = []
            self.lap("postprocess")
        decided = decided if len(opened.spatial_shape) == 3 else decided[..., 0, :, :]
        if self.multi_label:
            return LabelMap(decided, self.classes, True, opened.source)
        return LabelMap.from_indices(decided, self.classes, opened.source)

    def choose_classes(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the decision for probabilities ``(slices, classes, rows, columns)``.

        Returns:
            Where classes overlap, bool ``(classes, slices, rows, columns)``: above one half. Else the number of the
            most probable class, the first of equal ones, ``(slices, rows, columns)``; 0 is the background.
        """
        if self.multi_label:
            return np.moveaxis(probabilities > HALF, 1, 0)
        # Class by class, which reads memory in order: several times faster than argmax along this axis.
        best = probabilities[:, 0].copy()
        numbers = np.zeros(best.shape, dtype=np.min_scalar_type(len(self.classes)))
        for number in range(1, probabilities.shape[1]):
            values = probabilities[:, number]
            numbers[values > best] = number
            np.maximum(best, values, out=best)
        return numbers

    def read_image(self, path: Path) -> Image:
        """Return the image in a file; the fourth axis of a volume holds channels if the model takes several."""
        return read_image(path, channels=self.channels > 1)

    def _image_of_array(self, array: np.ndarray) -> Image:
        if array.ndim == 3 and self.channels == 1:
            return Image(array, ("slices", "rows", "columns"), "array")
        return super()._image_of_array(array)


def bundle_predictor(bundle: Bundle) -> SegmentationPredictor:
    """Return the predictor of a bundle whose task is segmentation."""
    manifest = bundle.manifest
    spec, output = manifest.input, manifest.output
    return SegmentationPredictor(
        network=bundle.compute_logits,
        preprocessing=manifest.read_preprocessing(bundle.path / MANIFEST),
        windows=SlidingWindow(spec.window, spec.stack, spec.overlap),
        classes=output.classes,
        multi_label=output.multi_label,
        seed=bundle.read_seed(),
        facts=bundle.facts,
        channels=spec.channels,
        numbered=manifest.layout == NUMBERED_LAYOUT,
    )


def measure_sizes(labels: LabelMap, spacing_mm: tuple[float, ...] | None) -> np.ndarray:
    """Return the size of each class: a volume in ml, an area in mm2, or pixels where there is no spacing."""
    counts = labels.planes.reshape(len(labels.classes), -1).sum(axis=1)
    if spacing_mm is None:
        return counts.astype(float)
    return counts * math.prod(spacing_mm) / (1000 if len(spacing_mm) == 3 else 1)
