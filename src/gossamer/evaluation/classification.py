"""The metrics of predictions with intervals, beside those of the trivial classifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.data import ClassificationDataset
from gossamer.evaluation.bootstrap import RESAMPLES, Estimate, bootstrap_metrics
from gossamer.evaluation.classification_metrics import (
    LABEL_METRICS,
    METRICS,
    classification_metrics,
    metrics_and_labels,
)
from gossamer.evaluation.predictions import Predictions
from gossamer.inference.decisions import HALF, Thresholds


@dataclass(frozen=True)
class LabelEvaluation:
    """What a split says about one label, or about one class against all others.

    Attributes:
        name: of the label.
        positives: images that have it.
        samples: images.
        metrics: ``LABEL_METRICS`` with 95 % bootstrap intervals; NaN where the split lacks positives or negatives.
        threshold: that sensitivity, specificity and F1 belong to; None where the largest probability decides.
        chosen: whether the threshold was chosen on validation images, rather than left at 0.5.
    """

    name: str
    positives: int
    samples: int
    metrics: dict[str, Estimate]
    threshold: float | None
    chosen: bool

    @property
    def prevalence(self) -> float:
        """Share of the images that have the label: the average precision of a ranking that knows nothing."""
        return self.positives / self.samples

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation of the label as data."""
        return {
            "positives": self.positives,
            "prevalence": self.prevalence,
            "threshold": self.threshold,
            "threshold_chosen": self.chosen,
            **{name: estimate.to_json() for name, estimate in self.metrics.items()},
        }


@dataclass(frozen=True)
class ClassificationEvaluation:
    """What a split says about a model.

    Attributes:
        split: name of the split.
        samples: number of images.
        groups: number of patients, or of images where patients are unknown.
        metrics: of the model, with 95 % bootstrap intervals.
        trivial: the same of the classifier that gives every image the class frequencies of the training split.
        labels: each label by itself; of two classes the second alone.
        nothing: of several labels, the metrics of giving every image none of them.
        thresholds: of the labels, as they were chosen on the validation split.
    """

    split: str
    samples: int
    groups: int
    metrics: dict[str, Estimate]
    trivial: dict[str, float]
    labels: tuple[LabelEvaluation, ...] = ()
    nothing: dict[str, float] | None = None
    thresholds: Thresholds | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as data."""
        return {
            "split": self.split,
            "samples": self.samples,
            "groups": self.groups,
            "interval": f"95 % percentile bootstrap over {self.groups} groups, {RESAMPLES} resamples",
            "metrics": {name: estimate.to_json() for name, estimate in self.metrics.items()},
            "trivial": self.trivial,
            **({} if self.nothing is None else {"nothing": self.nothing}),
            "labels": {label.name: label.to_json() for label in self.labels},
            "thresholds": None if self.thresholds is None else self.thresholds.to_json(),
        }


def evaluate_predictions(
    predictions: Predictions, prior: np.ndarray, *, split: str, seed: int = 0, resamples: int = RESAMPLES
) -> ClassificationEvaluation:
    """Return the metrics of ``predictions``.

    Args:
        predictions: of labelled images.
        prior: frequency of each class in the training split, for the trivial classifier.
        split: name of the split.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    groups, targets, multi_label = predictions.groups(), predictions.targets, predictions.multi_label
    thresholds = None if predictions.thresholds is None else predictions.thresholds.array()

    def metrics_of(rows: np.ndarray) -> dict[str, float]:
        # The labels stand in the same resamples as the whole, and are not measured twice.
        whole, labels = metrics_and_labels(
            predictions.probabilities[rows], targets[rows], multi_label=multi_label, thresholds=thresholds
        )
        return whole | {f"{k} {name}": value for k, label in enumerate(labels) for name, value in label.items()}

    def constant(row: np.ndarray) -> dict[str, float]:
        probabilities = np.tile(row.astype(np.float32), (len(targets), 1))
        return classification_metrics(probabilities, targets, multi_label=multi_label)

    found = bootstrap_metrics(metrics_of, groups, resamples=resamples, seed=seed)
    return ClassificationEvaluation(
        split=split,
        samples=len(predictions.samples),
        groups=len(set(groups)),
        metrics={name: found[name] for name in METRICS},
        trivial=constant(prior),
        labels=_labels(predictions, found),
        nothing=constant(np.zeros_like(prior)) if multi_label else None,
        thresholds=predictions.thresholds,
    )


def _labels(predictions: Predictions, found: dict[str, Estimate]) -> tuple[LabelEvaluation, ...]:
    """Return the labels from the estimates ``"<number> <metric>"``."""
    classes, thresholds = predictions.classes, predictions.thresholds
    single = not predictions.multi_label
    columns = [1] if single and len(classes) == 2 else list(range(len(classes)))
    decided = not single or len(columns) == 1
    return tuple(
        LabelEvaluation(
            name=classes[k],
            positives=int(predictions.targets[:, k].sum()),
            samples=len(predictions.samples),
            metrics={name: found[f"{number} {name}"] for name in LABEL_METRICS if f"{number} {name}" in found},
            threshold=(HALF if thresholds is None else thresholds.values[number]) if decided else None,
            chosen=thresholds is not None and classes[k] not in thresholds.kept,
        )
        for number, k in enumerate(columns)
    )


def class_frequencies(dataset: ClassificationDataset, classes: Sequence[str], split: str) -> np.ndarray:
    """Return the frequency of each of ``classes`` in the training split of ``dataset``.

    Without a training split, the frequencies are those of ``split`` itself: an optimistic trivial classifier.
    """
    used = "train" if any(sample.split == "train" for sample in dataset.samples) else split
    samples = [sample for sample in dataset.samples if used in ("all", sample.split)]
    counts = Counter(dataset.classes[label] for sample in samples for label in sample.labels)
    return np.array([counts[name] / len(samples) for name in classes], dtype=np.float32)
