"""Quantization of segmenters: their calibration windows, accuracy loss and metrics."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from gossamer.data import Sample, SegmentationDataset
from gossamer.data.windows import centred_start, cut_window, slice_with_neighbours, window_starts
from gossamer.evaluation.segmentation import evaluate_cases
from gossamer.evaluation.segmentation_metrics import mean_over_classes, overlap_metrics
from gossamer.inference.segmentation import SegmentationPredictor
from gossamer.quantization.accuracy_loss import Float32Reference, MeasurePair, compute_logits, require_defined
from gossamer.quantization.calibrate import shuffle_split

LABEL = "segmentation"
INPUT_NOUN = "windows"
LIMITED_METRICS = ("dice", "jaccard", "jaccard_weighted")
DEFAULT_METRIC = "dice"
COMPARED_WINDOWS = 32
"""Number of windows whose logits are compared."""
_CASES = 64
"""Largest number of cases that windows are drawn from, unless these hold too few."""


def draw_inputs(
    predictor: SegmentationPredictor, dataset: SegmentationDataset, split: str, count: int, seed: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return up to ``count`` windows of a split, drawn with a seed, and the ids of their samples.

    Up to 64 cases give the same number of windows each; more cases, and more windows of each, if those are too few.

    Args:
        predictor: Predictor whose preprocessing, window and overlap are applied.
        dataset: Data set that the network was trained on.
        split: Name of the split.
        count: Largest number of windows.
        seed: Seed of the draw.
    """
    samples, generator = shuffle_split(dataset, split, count, seed)
    share = -(-count // min(len(samples), _CASES))
    drawn: list[np.ndarray] = []
    ids: dict[str, None] = {}
    seeds = generator.integers(2**63, size=len(samples))
    for part in (slice(0, share), slice(share, None)):
        for sample, case_seed in zip(samples, seeds, strict=True):
            if len(drawn) >= count:
                break
            for window in list(_draw_windows(predictor, dataset, sample, int(case_seed), part))[: count - len(drawn)]:
                drawn.append(window)
                ids[sample.id] = None
    return np.stack(drawn), tuple(ids)


def _draw_windows(
    predictor: SegmentationPredictor, dataset: SegmentationDataset, sample: Sample, seed: int, part: slice
) -> Iterator[np.ndarray]:
    """Yield a part of the windows that evaluation sees of a case, in a seeded order."""
    windows = predictor.windows
    stack = predictor.preprocessing.network_stack(dataset.read(sample).image)
    rows, columns = (
        window_starts(size, side, windows.overlap) for size, side in zip(stack.shape[2:], windows.window, strict=True)
    )
    before = [centred_start(size, side) for size, side in zip(stack.shape[2:], windows.window, strict=True)]
    places = list(product(range(len(stack)), rows, columns))
    for index in np.random.default_rng(seed).permutation(len(places))[part]:
        number, row, column = places[index]
        # A side shorter than the window is centred among zeros, as in evaluation.
        corner = (row + min(0, before[0]), column + min(0, before[1]))
        yield cut_window(slice_with_neighbours(stack, number, windows.stack), corner, windows.window)


class SegmentationReference(Float32Reference):
    """A float32 segmenter evaluated on one split: whole cases on their own grids, window by window.

    Args:
        predictor: Predictor of the float32 network.
        dataset: Data set that the network was trained on.
        split: Name of the split.
        metric: Metric that is compared, one of ``LIMITED_METRICS``.
        seed: Seed of the bootstrap, and of the windows whose logits are compared.

    Raises:
        GossamerError: ``E-VALUE`` if the metric is undefined on the split, ``E-MISSING`` without the split, or the
            errors of reading images.
    """

    def __init__(
        self, predictor: SegmentationPredictor, dataset: SegmentationDataset, split: str, metric: str, seed: int
    ) -> None:
        windows, _ = draw_inputs(predictor, dataset, split, COMPARED_WINDOWS, seed)
        logits = compute_logits(predictor, windows)
        samples = dataset.split(split)
        super().__init__(metric=metric, split=split, samples=samples, inputs=windows, logits=logits, seed=seed)
        self.dataset = dataset
        self.order = [dataset.classes.index(name) for name in predictor.classes]
        # Masks of large cases are mostly empty: compressed, they need about 1 % of their size.
        self.masks: list[bytes] = []
        overlaps: list[np.ndarray] = []
        for _, planes, overlap in self._predict_cases(predictor):
            self.masks.append(zlib.compress(np.packbits(planes).tobytes(), 1))
            overlaps.append(overlap)
        self.overlaps = np.stack(overlaps)
        require_defined(mean_over_classes(self.overlaps), metric, dataset, split)

    def evaluate_candidate(self, candidate: Any, logits: np.ndarray) -> tuple[MeasurePair, float]:
        """Return how to measure both segmenters on some cases, and the share of pixels whose classes changed."""
        rows, changed, pixels = [], 0, 0
        for number, planes, overlap in self._predict_cases(candidate):
            before = np.frombuffer(zlib.decompress(self.masks[number]), np.uint8)
            differ = (np.unpackbits(before, count=planes.size).reshape(planes.shape) != planes).any(axis=0)
            changed, pixels = changed + int(differ.sum()), pixels + differ.size
            rows.append(overlap)
        overlaps = np.stack(rows)

        def measure(cases: np.ndarray) -> tuple[float, float]:
            return mean_over_classes(self.overlaps[cases]), mean_over_classes(overlaps[cases])

        return measure, changed / pixels

    def _predict_cases(self, predictor: SegmentationPredictor) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield the number, the predicted planes and the metric of each class of every case."""
        for number, sample in enumerate(self.samples):
            image, labels = self.dataset.read(sample)
            truth, planes = labels.planes[self.order], predictor.predict(image).planes
            axes = tuple(range(1, planes.ndim))
            counts = (planes & truth).sum(axes), planes.sum(axes), truth.sum(axes)
            yield number, planes, overlap_metrics(*counts)[self.metric]


measure_reference = SegmentationReference


def measure_quality(
    predictor: SegmentationPredictor, dataset: SegmentationDataset, split: str, seed: int
) -> dict[str, Any]:
    """Return every metric of a split with its interval and its trivial baseline, in the form of a manifest.

    Args:
        predictor: Predictor to evaluate.
        dataset: Data set that the network was trained on.
        split: Name of the split.
        seed: Seed of the bootstrap.
    """
    found = evaluate_cases(predictor, dataset, dataset.split(split), split=split, seed=seed)
    return {name: {**value.to_json(), "trivial": found.trivial.get(name)} for name, value in found.metrics.items()}
