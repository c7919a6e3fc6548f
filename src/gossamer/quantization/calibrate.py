"""Images and windows that a network is calibrated with: from the training split, never from validation or test.

Without data every activation would get the scale 1, and a network that answers the same for all images (measured on the
published recipe of quantized stand-alone self-attention, which never calibrated).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from onnxruntime.quantization import CalibrationDataReader

from gossamer.data import ClassificationDataset, Sample, SegmentationDataset
from gossamer.data.preparation.classification import prepare_split
from gossamer.data.windows import centred_start, cut_window, slice_with_neighbours, window_starts
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.inference.bundle import Bundle
from gossamer.inference.manifest import MANIFEST

MIN_SAMPLES = 128
"""Images or windows of the training split that calibration wants at least, where the split has as many."""
DEFAULT_SAMPLES = 256
_CASES = 64
"""Cases that windows are drawn from, at most, unless they hold too few."""
_BATCH = 4

Dataset = ClassificationDataset | SegmentationDataset


@dataclass(frozen=True)
class CalibrationData:
    """What a network is calibrated with.

    Attributes:
        windows: float32 ``(count, channels, rows, columns)``, as the network is given them.
        samples: ids of the training samples that they come from.
        what: ``images`` or ``windows``.
        notes: what a reader should know.
    """

    windows: np.ndarray
    samples: tuple[str, ...]
    what: str
    notes: tuple[Note, ...] = ()


def draw_calibration_data(
    bundle: Bundle, dataset: Dataset, count: int = DEFAULT_SAMPLES, seed: int = 0
) -> CalibrationData:
    """Return images, or windows of images with masks, of the training split, drawn with a seed.

    Args:
        bundle: whose preprocessing they go through.
        dataset: that the network was trained on.
        count: how many, at least 128; all that there are where the split holds fewer.
        seed: of the draw.

    Raises:
        GossamerError: ``E-CONFIG`` for fewer than 128, ``E-MISSING`` without a training split, or what reading raises.
    """
    require_enough_samples(count)
    windows, samples = draw_windows(bundle, dataset, "train", count, seed)
    what = "images" if isinstance(dataset, ClassificationDataset) else "windows"
    notes: tuple[Note, ...] = ()
    if len(windows) < count:
        text = f"the training split holds {len(windows)} {what}: all of them calibrate, {count} were wanted"
        notes = (Note(ErrorCode.MISSING, dataset.source, text),)
    return CalibrationData(windows, samples, what, notes)


def require_enough_samples(count: int) -> None:
    """Raise unless as many images are wanted as calibration needs.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if count < MIN_SAMPLES:
        problem = f"{count} images of the training split, calibration wants {MIN_SAMPLES} or more"
        raise GossamerError(ErrorCode.CONFIG, "--images", problem, f"use {DEFAULT_SAMPLES}")


def draw_windows(
    bundle: Bundle, dataset: Dataset, split: str, count: int, seed: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return up to ``count`` images or windows of a split as the network sees them, and the ids of their samples."""
    generator = np.random.default_rng([seed, count, *split.encode()])
    samples = dataset.split(split)
    order = [samples[index] for index in generator.permutation(len(samples))]
    if isinstance(dataset, ClassificationDataset):
        chosen = order[:count]
        preprocessing = bundle.manifest.read_preprocessing(bundle.path / MANIFEST)
        images = prepare_split(dataset, chosen, preprocessing, bundle.manifest.output.classes).images
        return images, tuple(sample.id for sample in chosen)
    return _draw_from_cases(bundle, dataset, order, count, generator)


class CalibrationBatches(CalibrationDataReader):
    """Windows in small batches, as ONNX Runtime's calibration asks for them; it may ask for a range of them."""

    def __init__(self, windows: np.ndarray, name: str) -> None:
        self._windows = windows
        self._name = name
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return -(-len(self._windows) // _BATCH)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with the batches from ``start_index`` to before ``end_index``."""
        self._left = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        """Return the next batch by the name of the graph's input; None after the last."""
        number = next(self._left, None)
        return None if number is None else {self._name: self._windows[number * _BATCH : (number + 1) * _BATCH]}


def _draw_from_cases(
    bundle: Bundle, dataset: SegmentationDataset, order: list[Sample], count: int, generator: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return windows of some cases, as many of each; of more cases, and more of each, where those are too few."""
    share = -(-count // min(len(order), _CASES))
    drawn: list[np.ndarray] = []
    ids: dict[str, None] = {}
    seeds = generator.integers(2**63, size=len(order))
    for part in (slice(0, share), slice(share, None)):
        for sample, seed in zip(order, seeds, strict=True):
            if len(drawn) >= count:
                break
            for window in list(_windows(bundle, dataset, sample, int(seed), part))[: count - len(drawn)]:
                drawn.append(window)
                ids[sample.id] = None
    return np.stack(drawn), tuple(ids)


def _windows(
    bundle: Bundle, dataset: SegmentationDataset, sample: Sample, seed: int, part: slice
) -> Iterator[np.ndarray]:
    """Yield some of the windows that evaluation would see of a case, in a seeded order."""
    spec = bundle.manifest.input
    stack = bundle.manifest.read_preprocessing(bundle.path / MANIFEST).network_stack(dataset.read(sample).image)
    rows, columns = (
        window_starts(size, side, spec.overlap) for size, side in zip(stack.shape[2:], spec.window, strict=True)
    )
    before = [centred_start(size, side) for size, side in zip(stack.shape[2:], spec.window, strict=True)]
    places = list(product(range(len(stack)), rows, columns))
    for index in np.random.default_rng(seed).permutation(len(places))[part]:
        number, row, column = places[index]
        # A side shorter than the window stands in the middle of zeros, as in evaluation.
        corner = (row + min(0, before[0]), column + min(0, before[1]))
        yield cut_window(slice_with_neighbours(stack, number, spec.stack), corner, spec.window)
