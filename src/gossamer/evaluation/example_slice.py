"""The slice of a case that shows a segmentation best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap


@dataclass(frozen=True)
class ExampleSlice:
    """A slice of a case with its truth and its prediction, as a report shows it.

    Attributes:
        picture: Array ``(rows, columns[, 3])`` with values 0 to 1.
        truth: Boolean array ``(classes, rows, columns)``.
        prediction: Boolean array ``(classes, rows, columns)``.
        slice_index: Index of the slice in a volume; None for an image.
        aspect: Height of a pixel divided by its width.
    """

    picture: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    slice_index: int | None
    aspect: float


def choose_example_slice(image: Image, truth: LabelMap, prediction: LabelMap) -> ExampleSlice:
    """Return the slice where truth and prediction together are largest.

    A volume whose orientation is known is shown as radiologists look at it: anterior up, the patient's right on the
    left.
    """
    aspect = image.spacing_mm[-2] / image.spacing_mm[-1] if image.spacing_mm is not None else 1.0
    array, true, predicted, index = image.array, truth.planes, prediction.planes, None
    if "slices" in image.axes:
        index = int((true | predicted).sum(axis=(0, 2, 3)).argmax())
        array, true, predicted = array[index], true[:, index], predicted[:, index]
    picture = array.astype(np.float32)
    if picture.ndim == 3 and picture.shape[-1] != 3:
        picture = picture[..., 0]
    if image.geometry is not None and image.geometry.oriented:
        picture, true, predicted = picture[::-1, ::-1], true[:, ::-1, ::-1], predicted[:, ::-1, ::-1]
    low, high = np.percentile(picture, (0.5, 99.5))
    return ExampleSlice(np.clip((picture - low) / max(high - low, 1e-6), 0, 1), true, predicted, index, aspect)
