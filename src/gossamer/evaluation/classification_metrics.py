"""Metrics of classification, by torchmetrics.

With two classes the second is the positive one. With more classes, and with several labels, AUROC, average precision
and F1 are macro averages over the classes for which they are defined. A metric that is undefined, such as the AUROC of
a single class, is NaN and never a number that looks like one.

Each class is also measured by itself, against all others where there are more than two.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torchmetrics.functional.classification as tm
from torch import Tensor

CALIBRATION_BINS = 15

# Name: how it is shown, and whether larger is better.
METRICS: dict[str, tuple[str, bool]] = {
    "auroc": ("AUROC", True),
    "average_precision": ("Average precision", True),
    "accuracy": ("Accuracy", True),
    "balanced_accuracy": ("Balanced accuracy", True),
    "f1": ("F1", True),
    "brier": ("Brier score", False),
    "ece": ("Expected calibration error", False),
}

# Of one label. The last three depend on its threshold; labels of which the largest probability decides have none.
LABEL_METRICS: dict[str, str] = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F1",
}


def classification_metrics(
    probabilities: np.ndarray, targets: np.ndarray, *, multi_label: bool, thresholds: np.ndarray | None = None
) -> dict[str, float]:
    """Return every metric of ``METRICS``.

    Args:
        probabilities: ``(samples, classes)``; rows sum to 1 unless multi-label.
        targets: ``(samples, classes)`` of 0 and 1.
        multi_label: whether a sample may have any number of classes.
        thresholds: ``(classes,)``, of multi-label accuracy, balanced accuracy and F1; one half if left out. Of single
            labels the largest probability decides.
    """
    return metrics_and_labels(probabilities, targets, multi_label=multi_label, thresholds=thresholds)[0]


def metrics_and_labels(
    probabilities: np.ndarray, targets: np.ndarray, *, multi_label: bool, thresholds: np.ndarray | None = None
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return every metric of ``METRICS``, and those of ``LABEL_METRICS`` for each label.

    Args:
        probabilities: as of ``classification_metrics``.
        targets: the same.
        multi_label: the same.
        thresholds: the same; with two classes ``(1,)``, for the label alone: the whole is that of the larger one.

    Returns:
        the metrics; and one entry a class, or one alone, the second, of two.
    """
    predicted, truth = torch.from_numpy(probabilities).float(), torch.from_numpy(targets).long()
    count = truth.shape[1]
    if multi_label:
        called = probabilities.astype(np.float64) > (0.5 if thresholds is None else thresholds)
        columns = [_binary_metrics(predicted[:, k].contiguous(), called[:, k], truth[:, k]) for k in range(count)]
        whole = {name: _mean_of_defined([column[name] for column in columns]) for name in METRICS}
        both = [column["balanced_accuracy"] for column in columns if not math.isnan(column["auroc"])]
        whole["balanced_accuracy"] = _mean_of_defined(both)  # how many negatives are right is not balanced by itself
        return whole, [{name: column[name] for name in LABEL_METRICS} for column in columns]
    if count == 2:
        scores = predicted[:, 1].contiguous()
        whole = _binary_metrics(scores, probabilities[:, 1] > 0.5, truth[:, 1])
        called = probabilities[:, 1].astype(np.float64) > (0.5 if thresholds is None else thresholds[0])
        label = whole | _decisions(torch.from_numpy(called).long(), truth[:, 1])
        return {name: whole[name] for name in METRICS}, [{name: label[name] for name in LABEL_METRICS}]
    labels = [_ranks(predicted[:, k].contiguous(), truth[:, k]) for k in range(count)]
    return _multiclass_metrics(predicted, truth, labels), labels


def validation_metrics(logits: Tensor, targets: Tensor, *, multi_label: bool) -> dict[str, float]:
    """Return the AUROC and the accuracy of logits, under names that begin with ``val_``."""
    probabilities = torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=1)
    metrics = classification_metrics(probabilities.cpu().numpy(), targets.cpu().numpy(), multi_label=multi_label)
    return {"val_auroc": metrics["auroc"], "val_accuracy": metrics["accuracy"]}


def _ranks(scores: Tensor, truth: Tensor) -> dict[str, float]:
    positives = int(truth.sum())
    both = 0 < positives < len(truth)
    options: Any = {"validate_args": False}
    return {
        "auroc": float(tm.binary_auroc(scores, truth, **options)) if both else math.nan,
        "average_precision": float(tm.binary_average_precision(scores, truth, **options)) if positives else math.nan,
    }


def _decisions(called: Tensor, truth: Tensor) -> dict[str, float]:
    positives, hits = int(truth.sum()), int((called * truth).sum())
    negatives, rejected = len(truth) - positives, int(((1 - called) * (1 - truth)).sum())
    return {
        "sensitivity": hits / positives if positives else math.nan,
        "specificity": rejected / negatives if negatives else math.nan,
        "f1": 2 * hits / (positives + int(called.sum())) if positives else math.nan,
    }


def _binary_metrics(scores: Tensor, called: np.ndarray, truth: Tensor) -> dict[str, float]:
    chosen = torch.from_numpy(called).long()
    decided = _decisions(chosen, truth)
    recalls = [value for name in ("specificity", "sensitivity") if not math.isnan(value := decided[name])]
    return (
        _ranks(scores, truth)
        | decided
        | {
            "accuracy": float((chosen == truth).float().mean()),
            "balanced_accuracy": float(np.mean(recalls)),
            "brier": float((scores - truth).square().mean()),
            "ece": float(tm.binary_calibration_error(scores, truth, n_bins=CALIBRATION_BINS, validate_args=False)),
        }
    )


def _multiclass_metrics(probabilities: Tensor, truth: Tensor, labels: list[dict[str, float]]) -> dict[str, float]:
    classes = truth.shape[1]
    wanted = truth.argmax(dim=1)
    chosen = probabilities.argmax(dim=1)
    present = [k for k in range(classes) if bool((wanted == k).any())]
    options: Any = {"validate_args": False}
    hits = (chosen == wanted).float()
    f1 = tm.multiclass_f1_score(chosen, wanted, num_classes=classes, average="none", **options)
    return {
        "auroc": _mean_of_defined([label["auroc"] for label in labels]),
        "average_precision": _mean_of_defined([label["average_precision"] for label in labels]),
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float(np.mean([float(hits[wanted == k].mean()) for k in present])),
        "f1": _mean_of_defined([float(f1[k]) for k in present]),
        "brier": float((probabilities - truth).square().sum(dim=1).mean()),
        "ece": float(
            tm.multiclass_calibration_error(
                probabilities, wanted, num_classes=classes, n_bins=CALIBRATION_BINS, **options
            )
        ),
    }


def _mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
