"""Quantization of classifiers: their calibration images, accuracy loss and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from gossamer.data import ClassificationDataset
from gossamer.data.preparation.classification import prepare_split
from gossamer.evaluation.classification import class_frequencies, evaluate_predictions
from gossamer.evaluation.classification_metrics import METRICS, classification_metrics
from gossamer.evaluation.predictions import Predictions
from gossamer.inference.classification import ClassificationPredictor
from gossamer.inference.decisions import chosen_classes, compute_probabilities
from gossamer.inference.predictor import Predictor
from gossamer.quantization.accuracy_loss import Float32Reference, MeasurePair, compute_logits, require_defined
from gossamer.quantization.calibrate import shuffle_split

LABEL = "classification"
INPUT_NOUN = "images"
LIMITED_METRICS = tuple(METRICS)
DEFAULT_METRIC = "auroc"


def draw_inputs(
    predictor: ClassificationPredictor, dataset: ClassificationDataset, split: str, count: int, seed: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return up to ``count`` prepared images of a split, drawn with a seed, and the ids of their samples.

    Args:
        predictor: Predictor whose preprocessing is applied.
        dataset: Data set that the network was trained on.
        split: Name of the split.
        count: Largest number of images.
        seed: Seed of the draw.
    """
    samples, _ = shuffle_split(dataset, split, count, seed)
    images = prepare_split(dataset, samples[:count], predictor.preprocessing, predictor.classes).images
    return images, tuple(sample.id for sample in samples[:count])


class ClassificationReference(Float32Reference):
    """A float32 classifier evaluated on one split. Images are seen one at a time, as ``gossamer predict`` does.

    Args:
        predictor: Predictor of the float32 network.
        dataset: Data set that the network was trained on.
        split: Name of the split.
        metric: Metric that is compared, one of ``LIMITED_METRICS``.
        seed: Seed of the bootstrap.

    Raises:
        GossamerError: ``E-VALUE`` if the metric is undefined on the split, ``E-MISSING`` without the split, or the
            errors of reading images.
    """

    def __init__(
        self, predictor: ClassificationPredictor, dataset: ClassificationDataset, split: str, metric: str, seed: int
    ) -> None:
        prepared = prepare_split(dataset, dataset.split(split), predictor.preprocessing, predictor.classes)
        logits = compute_logits(predictor, prepared.images)
        super().__init__(
            metric=metric, split=split, samples=prepared.samples, inputs=prepared.images, logits=logits, seed=seed
        )
        self.targets, self.multi_label, self.thresholds = prepared.targets, predictor.multi_label, predictor.thresholds
        self.probabilities = compute_probabilities(logits, multi_label=self.multi_label)
        require_defined(self._measure(self.probabilities, np.arange(len(logits))), metric, dataset, split)

    def evaluate_candidate(self, candidate: Predictor, logits: np.ndarray) -> tuple[MeasurePair, float]:
        """Return how to measure both classifiers on some images, and the share of images whose classes changed."""
        probabilities = compute_probabilities(logits, multi_label=self.multi_label)
        before, after = (
            chosen_classes(values, multi_label=self.multi_label, thresholds=self.thresholds)
            for values in (self.probabilities, probabilities)
        )

        def measure(rows: np.ndarray) -> tuple[float, float]:
            return self._measure(self.probabilities, rows), self._measure(probabilities, rows)

        return measure, float((before != after).any(axis=1).mean())

    def _measure(self, probabilities: np.ndarray, rows: np.ndarray) -> float:
        thresholds = self.thresholds.array() if self.multi_label and self.thresholds is not None else None
        metrics = classification_metrics(
            probabilities[rows], self.targets[rows], multi_label=self.multi_label, thresholds=thresholds
        )
        return metrics[self.metric]


measure_reference = ClassificationReference


def measure_quality(
    predictor: ClassificationPredictor, dataset: ClassificationDataset, split: str, seed: int
) -> dict[str, Any]:
    """Return every metric of a split with its interval and its trivial baseline, in the form of a manifest.

    Args:
        predictor: Predictor to evaluate.
        dataset: Data set that the network was trained on.
        split: Name of the split.
        seed: Seed of the bootstrap.
    """
    classes, multi_label = predictor.classes, predictor.multi_label
    prepared = prepare_split(dataset, dataset.split(split), predictor.preprocessing, classes)
    probabilities = compute_probabilities(compute_logits(predictor, prepared.images), multi_label=multi_label)
    predictions = Predictions(
        prepared.samples, classes, multi_label, probabilities, prepared.targets, predictor.thresholds
    )
    prior = class_frequencies(dataset, classes, split)
    found = evaluate_predictions(predictions, prior, split=split, seed=seed)
    return {name: {**value.to_json(), "trivial": found.trivial.get(name)} for name, value in found.metrics.items()}
