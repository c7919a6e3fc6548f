"""From an image of any size to its masks, on the image's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.data.transforms import Preprocessing, resample_planes
from gossamer.data.windows import Predict, add_neighbours, blend_bands
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import Bundle
from gossamer.inference.decisions import HALF, probabilities_of, require_finite
from gossamer.inference.stage_timer import Lap, no_timing, time_calls


@dataclass(frozen=True)
class Inference:
    """How a network that sees slices through windows comes to an image.

    Attributes:
        window: ``(rows, columns)`` that the network sees at once.
        stack: how many neighbouring slices are its channels, an odd number; the slice itself is in the middle.
        overlap: fraction of a window that neighbours share at least.

    Raises:
        GossamerError: ``E-CONFIG``, for a stack that is even or an overlap that is no fraction.
    """

    window: tuple[int, int]
    stack: int = 1
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if self.stack < 1 or self.stack % 2 == 0:
            raise GossamerError(ErrorCode.CONFIG, "stack", f"{self.stack} is not odd and positive", "use 1, 3 or 5")
        if not 0 <= self.overlap < 1:
            raise GossamerError(ErrorCode.CONFIG, "overlap", f"{self.overlap} is not in [0, 1)", "use 0.5")


@dataclass(frozen=True)
class SegmentationPredictor:
    """A trained network with everything that stands between an image and its masks.

    Attributes:
        network: windows to probabilities; the background is the first of them unless classes overlap.
        preprocessing: stored values to the network's input.
        inference: windows and neighbouring slices.
        classes: names, background not among them.
        overlapping: whether the network answers for each class by itself, rather than choosing one or none.
        lap: told when a stage ends.
    """

    network: Predict
    preprocessing: Preprocessing
    inference: Inference
    classes: tuple[str, ...]
    overlapping: bool
    lap: Lap = no_timing

    def __call__(self, image: Image) -> LabelMap:
        """Return the masks of an image or a volume.

        Probabilities exist of a band of some slices at a time; what is kept of it is a byte a pixel, the number of its
        class, or a bit for each class that may overlap others.

        Raises:
            GossamerError: the image cannot be used; ``E-VALUE`` where its probabilities are no numbers.
        """
        stack = self.preprocessing.network_stack(image)
        shape = (image.spatial_shape[-2], image.spatial_shape[-1])
        lead, kind = ((len(self.classes),), bool) if self.overlapping else ((), np.min_scalar_type(len(self.classes)))
        decided = np.zeros((*lead, len(stack), *shape), dtype=kind)
        resampled = stack.shape[2:] != shape
        parts: list[np.ndarray] = []
        wide = add_neighbours(stack, self.inference.stack)
        del stack
        for band in blend_bands(wide, self.inference.window, self.network, self.inference.overlap):
            require_finite(band.values, image.source)
            if not resampled:
                decided[..., band.slices, band.rows, :] = self.choose(band.values)
                self.lap("postprocess")
                continue
            parts.append(band.values)
            if band.rows.stop == wide.shape[2]:
                whole = resample_planes(np.concatenate(parts, axis=2), shape)
                decided[..., band.slices, :, :] = self.choose(whole)
                parts = []
            self.lap("postprocess")
        decided = decided if len(image.spatial_shape) == 3 else decided[..., 0, :, :]
        if self.overlapping:
            return LabelMap(decided, self.classes, True, image.source)
        return LabelMap.from_indices(decided, self.classes, image.source)

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """Return what is decided of probabilities ``(slices, classes, rows, columns)``.

        Returns:
            Where classes overlap, bool ``(classes, slices, rows, columns)``: above one half. Else the number of the
            most probable class, of equal ones the first, ``(slices, rows, columns)``; 0 is the background.
        """
        if self.overlapping:
            return np.moveaxis(probabilities > HALF, 1, 0)
        # Class by class, which reads memory in order: several times quicker than argmax along this axis.
        best = probabilities[:, 0].copy()
        numbers = np.zeros(best.shape, dtype=np.min_scalar_type(len(self.classes)))
        for number in range(1, probabilities.shape[1]):
            values = probabilities[:, number]
            numbers[values > best] = number
            np.maximum(best, values, out=best)
        return numbers


def bundle_masks(bundle: Bundle, lap: Lap = no_timing) -> SegmentationPredictor:
    """Return the network of a bundle with everything that stands between an image and its masks.

    Args:
        bundle: that was opened.
        lap: told when a stage ends.

    Raises:
        GossamerError: ``E-CONFIG`` for a bundle that classifies, or windows that cannot be.
    """
    manifest = bundle.manifest
    if manifest.task != "segment":
        raise GossamerError(ErrorCode.CONFIG, bundle.path, "classifies, masks are asked for", "use another bundle")
    spec, output = manifest.input, manifest.output
    logits = time_calls(bundle.predict, lap)

    def probabilities(windows: np.ndarray) -> np.ndarray:
        return probabilities_of(logits(windows), multi_label=output.multi_label)

    inference = Inference(spec.window, spec.stack, spec.overlap)
    return SegmentationPredictor(
        probabilities, bundle.preprocessing, inference, output.classes, output.multi_label, lap
    )


def measure_sizes(labels: LabelMap, spacing_mm: tuple[float, ...] | None) -> np.ndarray:
    """Return the size of each class: a volume in ml, an area in mm2, or pixels where there is no spacing."""
    counts = labels.planes.reshape(len(labels.classes), -1).sum(axis=1)
    if spacing_mm is None:
        return counts.astype(float)
    return counts * math.prod(spacing_mm) / (1000 if len(spacing_mm) == 3 else 1)
