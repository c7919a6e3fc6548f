"""The metrics of predicted classes with intervals over patients, compared with those of the trivial classifier."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data import ClassificationDataset, open_dataset
from gossamer.data.preparation.classification import prepare_split
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import RESAMPLES, Estimate, bootstrap_metrics
from gossamer.evaluation.classification_metrics import (
    LABEL_METRICS,
    METRICS,
    classification_metrics,
    metrics_and_labels,
)
from gossamer.evaluation.predictions import Predictions, predict_split
from gossamer.evaluation.results import EvaluationResults, format_interval, format_value
from gossamer.inference.classification import ClassificationPredictor
from gossamer.inference.decisions import HALF, Thresholds
from gossamer.progress import SILENT, Progress
from gossamer.summary import SummaryTable


@dataclass(frozen=True)
class LabelEvaluation:
    """The metrics of one label, or of one class against all others, on one split.

    Attributes:
        name: Name of the label.
        positives: Number of images with the label.
        samples: Number of images.
        metrics: ``LABEL_METRICS`` with 95 % bootstrap intervals; NaN if the split lacks positives or negatives.
        threshold: Threshold of sensitivity, specificity and F1; None if the largest probability decides.
        chosen: Whether the threshold was chosen on validation images, rather than left at 0.5.
    """

    name: str
    positives: int
    samples: int
    metrics: dict[str, Estimate]
    threshold: float | None
    chosen: bool

    @property
    def prevalence(self) -> float:
        """Share of the images with the label, which is the average precision of a random ranking."""
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
    """The metrics of a classification model on one split.

    Attributes:
        split: Name of the split.
        samples: Number of images.
        groups: Number of patients, or of images if patients are unknown.
        metrics: Metrics of the model, with 95 % bootstrap intervals.
        trivial: Metrics of the classifier that gives every image the class frequencies of the training split.
        labels: Metrics of each label; with two classes of the second only.
        nothing: Metrics of giving every image no label; None for single labels.
        thresholds: Thresholds of the labels, chosen on the validation split.
    """

    split: str
    samples: int
    groups: int
    metrics: dict[str, Estimate]
    trivial: dict[str, float]
    labels: tuple[LabelEvaluation, ...] = ()
    nothing: dict[str, float] | None = None
    thresholds: Thresholds | None = None

    def tables(self, source: str) -> tuple[SummaryTable, ...]:
        """Return the metrics as a table, followed by a table of the labels of a multi-label model."""
        none = self.nothing
        headings = ("metric", "value", "95 % interval", "trivial", *(() if none is None else ("no label",)))
        rows = []
        for key, (name, _) in METRICS.items():
            found = self.metrics[key]
            compared = (self.trivial[key], *(() if none is None else (none[key],)))
            rows.append(
                (name, format_value(found.value), format_interval(found), *(format_value(value) for value in compared))
            )
        title = f"{source}, {self.split} split, {self.samples} images"
        whole = SummaryTable(title, headings, tuple(rows))
        return (whole,) if none is None else (whole, labels_table(self.labels))

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
        predictions: Predictions for labelled images.
        prior: Frequency of each class in the training split, for the trivial classifier.
        split: Name of the split.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
    """
    groups, targets, multi_label = predictions.groups(), predictions.targets, predictions.multi_label
    thresholds = None if predictions.thresholds is None else predictions.thresholds.array()

    def metrics_of(rows: np.ndarray) -> dict[str, float]:
        # Labels share the resamples of the whole, so that nothing is measured twice.
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
        labels=_label_evaluations(predictions, found),
        nothing=constant(np.zeros_like(prior)) if multi_label else None,
        thresholds=predictions.thresholds,
    )


def _label_evaluations(predictions: Predictions, found: dict[str, Estimate]) -> tuple[LabelEvaluation, ...]:
    """Return the evaluation of each label, from estimates named ``"<number> <metric>"``."""
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


def labels_table(labels: Sequence[LabelEvaluation]) -> SummaryTable:
    """Return each label by itself as a compact table, the best ranked first."""
    headings = ("label", "with it", "AUROC", "95 % interval", "AP", "threshold", "sensitivity", "specificity")
    rows = []
    for label in sort_by_auroc(labels):
        auroc = label.metrics["auroc"]
        precision, *decided = (
            format_value(label.metrics[name].value) for name in ("average_precision", "sensitivity", "specificity")
        )
        threshold = f"{label.threshold:.3f}" if label.chosen else "0.5 kept"
        ranked = (format_value(auroc.value), format_interval(auroc), precision)
        rows.append((label.name, f"{label.prevalence:.1%}", *ranked, threshold, *decided))
    return SummaryTable("", headings, tuple(rows))


def sort_by_auroc(labels: Sequence[LabelEvaluation]) -> list[LabelEvaluation]:
    """Return labels by falling AUROC; those for which it is undefined come last."""
    defined = [label for label in labels if not math.isnan(label.metrics["auroc"].value)]
    ordered = sorted(defined, key=lambda label: -label.metrics["auroc"].value)
    return ordered + [label for label in labels if math.isnan(label.metrics["auroc"].value)]


def evaluate_data(
    predictor: ClassificationPredictor,
    data: Path,
    *,
    split: str = "test",
    out: Path | None = None,
    tolerance: float | None = None,
    progress: Progress = SILENT,
) -> EvaluationResults:
    """Evaluate a model on a data set whose labels describe whole images.

    Args:
        predictor: Model to evaluate.
        data: Path of the data set.
        split: ``train``, ``val``, ``test``, or ``all`` for every image.
        out: Path of a CSV file for the prediction of each image (default: none is written).
        tolerance: Option of segmentation, refused here.
        progress: Receiver of the number of images read.

    Raises:
        GossamerError: ``E-CONFIG`` for an option that does not fit, ``E-LABEL`` for a label that the model does not
            know, and what opening and reading the data raise.
    """
    if tolerance is not None:
        problem = "is an option of segmentation, this model classifies"
        raise GossamerError(ErrorCode.CONFIG, "tolerance", problem, "leave it out")
    dataset = open_dataset(data, seed=predictor.seed, task=predictor.task)
    if dataset.faults:
        raise dataset.faults[0]
    samples = dataset.samples if split == "all" else dataset.split(split)
    prepared = prepare_split(dataset, samples, predictor.preprocessing, predictor.classes, progress)
    predictions = predict_split(predictor, prepared)
    prior = class_frequencies(dataset, predictor.classes, split)
    evaluation = evaluate_predictions(predictions, prior, split=split, seed=predictor.seed)
    if out is not None:
        predictions.write_csv(out)
    notes = (*dataset.notes, *prepared.notes, *predictor.notes)
    return EvaluationResults(evaluation, str(data), predictor.facts, notes)


def class_frequencies(dataset: ClassificationDataset, classes: Sequence[str], split: str) -> np.ndarray:
    """Return the frequency of each of ``classes`` in the training split of ``dataset``.

    If there is no training split, the frequencies are those of ``split`` itself: an optimistic trivial classifier.
    """
    used = "train" if any(sample.split == "train" for sample in dataset.samples) else split
    samples = [sample for sample in dataset.samples if used in ("all", sample.split)]
    counts = Counter(dataset.classes[label] for sample in samples for label in sample.labels)
    return np.array([counts[name] / len(samples) for name in classes], dtype=np.float32)
