"""Calibration data: images and windows of the training split, never of the validation or test split.

Without calibration data every activation would get the scale 1, and the network would give the same result for all
images (measured on the published recipe of quantized stand-alone self-attention, which never calibrated).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnxruntime.quantization import CalibrationDataReader

from gossamer.data import Dataset, Sample
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.inference.predictor import Predictor

if TYPE_CHECKING:
    from gossamer.quantization.tasks import QuantizationTask

MIN_SAMPLES = 128
"""Smallest number of images or windows that calibration accepts, if the training split holds as many."""
DEFAULT_SAMPLES = 256
_BATCH = 4


@dataclass(frozen=True)
class CalibrationData:
    """Inputs that the ranges of activations are measured with.

    Attributes:
        windows: Network inputs, float32 ``(count, channels, rows, columns)``.
        samples: Ids of the training samples that they were taken from.
        noun: ``images`` or ``windows``.
        notes: Remarks for the reader of the report.
    """

    windows: np.ndarray
    samples: tuple[str, ...]
    noun: str
    notes: tuple[Note, ...] = ()


def draw_calibration_data(
    task: QuantizationTask, predictor: Predictor, dataset: Dataset, count: int = DEFAULT_SAMPLES, seed: int = 0
) -> CalibrationData:
    """Return images or windows of the training split, drawn with a seed.

    Args:
        task: Task of the network.
        predictor: Predictor whose preprocessing is applied.
        dataset: Data set that the network was trained on.
        count: Number of images or windows, 128 or more; all of them if the split holds fewer.
        seed: Seed of the draw.

    Raises:
        GossamerError: ``E-CONFIG`` for fewer than 128, ``E-MISSING`` without a training split, or the errors of
            reading images.
    """
    require_enough_samples(count)
    windows, samples = task.draw_inputs(predictor, dataset, "train", count, seed)
    notes: tuple[Note, ...] = ()
    if len(windows) < count:
        text = f"the training split holds {len(windows)} of {count} {task.INPUT_NOUN} for calibration; all are used"
        notes = (Note(ErrorCode.MISSING, dataset.source, text),)
    return CalibrationData(windows, samples, task.INPUT_NOUN, notes)


def require_enough_samples(count: int) -> None:
    """Raise unless the number of calibration samples is large enough.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if count < MIN_SAMPLES:
        problem = f"{count} calibration samples are fewer than {MIN_SAMPLES}"
        raise GossamerError(ErrorCode.CONFIG, "images", problem, f"use {DEFAULT_SAMPLES}")


def shuffle_split(dataset: Dataset, split: str, count: int, seed: int) -> tuple[list[Sample], np.random.Generator]:
    """Return the samples of a split in a seeded order, and the generator that continues from there."""
    generator = np.random.default_rng([seed, count, *split.encode()])
    samples = dataset.split(split)
    return [samples[index] for index in generator.permutation(len(samples))], generator


class CalibrationBatches(CalibrationDataReader):
    """Network inputs in small batches, in the form that ONNX Runtime's calibration reads.

    Args:
        windows: Network inputs, float32 ``(count, channels, rows, columns)``.
        name: Name of the graph's input.
    """

    def __init__(self, windows: np.ndarray, name: str) -> None:
        self._windows = windows
        self._name = name
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return -(-len(self._windows) // _BATCH)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the batches ``start_index`` to ``end_index - 1``."""
        self._left = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        """Return the next batch under the name of the graph's input; None after the last."""
        number = next(self._left, None)
        return None if number is None else {self._name: self._windows[number * _BATCH : (number + 1) * _BATCH]}
