"""From an image of any size to its masks, on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.data.transforms import Preprocessing, resample_planes
from gossamer.data.windows import Predict, bands
from gossamer.errors import ErrorCode, GossamerError


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
class MaskModel:
    """A trained network with everything that stands between an image and its masks.

    Attributes:
        network: images to logits.
        preprocessing: stored values to the network's input.
        inference: windows and neighbouring slices.
        classes: names, background not among them.
        overlapping: whether the network answers for each class by itself, rather than choosing one or none.
    """

    network: nn.Module
    preprocessing: Preprocessing
    inference: Inference
    classes: tuple[str, ...]
    overlapping: bool

    def __call__(self, image: Image) -> LabelMap:
        """Return the masks of an image or a volume.

        Raises:
            GossamerError: the image cannot be used.
        """
        stack = self.preprocessing.network_stack(image)
        shape = (image.spatial_shape[-2], image.spatial_shape[-1])
        planes = np.zeros((len(self.classes), len(stack), *shape), dtype=bool)
        resampled = stack.shape[2:] != shape
        parts: list[np.ndarray] = []
        wide = with_neighbours(stack, self.inference.stack)
        del stack
        for band in bands(wide, self.inference.window, self.probabilities(), self.inference.overlap):
            if not resampled:
                planes[:, band.slices, band.rows] = np.moveaxis(self.choose(band.values), 1, 0)
                continue
            parts.append(band.values)
            if band.rows.stop == wide.shape[2]:
                whole = resample_planes(np.concatenate(parts, axis=2), shape)
                planes[:, band.slices] = np.moveaxis(self.choose(whole), 1, 0)
                parts = []
        planes = planes if len(image.spatial_shape) == 3 else planes[:, 0]
        return LabelMap(planes, self.classes, self.overlapping, image.source)

    def probabilities(self) -> Predict:
        """Return the network as a function of numpy windows."""
        self.network.eval()

        def predict(windows: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                logits = self.network(torch.from_numpy(windows)).float()
                return (torch.sigmoid(logits) if self.overlapping else torch.softmax(logits, dim=1)).numpy()

        return predict

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """Return bool ``(slices, classes, rows, columns)`` without background: above one half, or the most probable."""
        if self.overlapping:
            return probabilities > 0.5
        best = probabilities.argmax(axis=1)
        return best[:, None] == np.arange(1, probabilities.shape[1])[None, :, None, None]


def with_neighbours(stack: np.ndarray, count: int) -> np.ndarray:
    """Return ``(slices, count * channels, rows, columns)``: each slice with its neighbours, the outermost repeated."""
    if count == 1:
        return stack
    offsets = np.arange(count) - count // 2
    index = np.clip(np.arange(len(stack))[:, None] + offsets, 0, len(stack) - 1)
    return stack[index].reshape(len(stack), -1, *stack.shape[2:])
