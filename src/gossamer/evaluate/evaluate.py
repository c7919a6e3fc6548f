"""The metrics of predictions with intervals, beside those of the trivial classifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.data.datasets import Dataset
from gossamer.evaluate.bootstrap import RESAMPLES, Estimate, bootstrap
from gossamer.evaluate.metrics import classification_metrics
from gossamer.evaluate.predictions import Predictions


@dataclass(frozen=True)
class Evaluation:
    """What a split says about a model.

    Attributes:
        split: name of the split.
        samples: number of images.
        groups: number of patients, or of images where patients are unknown.
        metrics: of the model, with 95 % bootstrap intervals.
        trivial: the same of the classifier that gives every image the class frequencies of the training split.
    """

    split: str
    samples: int
    groups: int
    metrics: dict[str, Estimate]
    trivial: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as data."""
        return {
            "split": self.split,
            "samples": self.samples,
            "groups": self.groups,
            "interval": f"95 % percentile bootstrap over {self.groups} groups, {RESAMPLES} resamples",
            "metrics": {name: estimate.to_json() for name, estimate in self.metrics.items()},
            "trivial": self.trivial,
        }


def evaluate_predictions(
    predictions: Predictions, prior: np.ndarray, *, split: str, seed: int = 0, resamples: int = RESAMPLES
) -> Evaluation:
    """Return the metrics of ``predictions``.

    Args:
        predictions: of labelled images.
        prior: frequency of each class in the training split, for the trivial classifier.
        split: name of the split.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    groups = predictions.groups()
    constant = np.broadcast_to(prior, predictions.probabilities.shape).astype(np.float32)

    def metrics_of(rows: np.ndarray) -> dict[str, float]:
        return classification_metrics(
            predictions.probabilities[rows], predictions.targets[rows], multi_label=predictions.multi_label
        )

    return Evaluation(
        split=split,
        samples=len(predictions.samples),
        groups=len(set(groups)),
        metrics=bootstrap(metrics_of, groups, resamples=resamples, seed=seed),
        trivial=classification_metrics(constant.copy(), predictions.targets, multi_label=predictions.multi_label),
    )


def class_frequencies(dataset: Dataset, classes: Sequence[str], split: str) -> np.ndarray:
    """Return the frequency of each of ``classes`` in the training split of ``dataset``.

    Without a training split, the frequencies are those of ``split`` itself: an optimistic trivial classifier.
    """
    used = "train" if any(sample.split == "train" for sample in dataset.samples) else split
    samples = [sample for sample in dataset.samples if used in ("all", sample.split)]
    counts = Counter(dataset.classes[label] for sample in samples for label in sample.labels)
    return np.array([counts[name] / len(samples) for name in classes], dtype=np.float32)
