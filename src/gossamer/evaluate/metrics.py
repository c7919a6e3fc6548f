"""Metrics of classification, by torchmetrics.

With two classes the second is the positive one. With more classes, and with several labels, AUROC, average precision
and F1 are macro averages over the classes for which they are defined. A metric that is undefined, such as the AUROC of
a single class, is NaN and never a number that looks like one.
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


def classification_metrics(probabilities: np.ndarray, targets: np.ndarray, *, multi_label: bool) -> dict[str, float]:
    """Return every metric of ``METRICS``.

    Args:
        probabilities: ``(samples, classes)``; rows sum to 1 unless multi-label.
        targets: ``(samples, classes)`` of 0 and 1.
        multi_label: whether a sample may have any number of classes.
    """
    predicted, truth = torch.from_numpy(probabilities).float(), torch.from_numpy(targets).long()
    if multi_label:
        columns = [_binary_metrics(predicted[:, k].contiguous(), truth[:, k]) for k in range(truth.shape[1])]
        return {name: _mean_of_defined([column[name] for column in columns]) for name in METRICS}
    if truth.shape[1] == 2:
        return _binary_metrics(predicted[:, 1].contiguous(), truth[:, 1])
    return _multiclass_metrics(predicted, truth)


def validation_metrics(logits: Tensor, targets: Tensor, *, multi_label: bool) -> dict[str, float]:
    """Return the AUROC and the accuracy of logits, under names that begin with ``val_``."""
    probabilities = torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=1)
    metrics = classification_metrics(probabilities.cpu().numpy(), targets.cpu().numpy(), multi_label=multi_label)
    return {"val_auroc": metrics["auroc"], "val_accuracy": metrics["accuracy"]}


def _binary_metrics(scores: Tensor, truth: Tensor) -> dict[str, float]:
    positives = int(truth.sum())
    both = 0 < positives < len(truth)
    options: Any = {"validate_args": False}
    ranked = {
        "auroc": float(tm.binary_auroc(scores, truth, **options)) if both else math.nan,
        "average_precision": float(tm.binary_average_precision(scores, truth, **options)) if positives else math.nan,
    }
    chosen = (scores > 0.5).long()
    hits = (chosen == truth).float()
    recalls = [float(hits[truth == value].mean()) for value in (0, 1) if bool((truth == value).any())]
    return ranked | {
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "f1": float(tm.binary_f1_score(chosen, truth, **options)) if positives or int(chosen.sum()) else math.nan,
        "brier": float((scores - truth).square().mean()),
        "ece": float(tm.binary_calibration_error(scores, truth, n_bins=CALIBRATION_BINS, **options)),
    }


def _multiclass_metrics(probabilities: Tensor, truth: Tensor) -> dict[str, float]:
    classes = truth.shape[1]
    labels = truth.argmax(dim=1)
    chosen = probabilities.argmax(dim=1)
    present = [k for k in range(classes) if bool((labels == k).any())]
    options: Any = {"validate_args": False}
    ranks = {
        name: _mean_of_defined([float(metric(probabilities[:, k], truth[:, k], **options)) for k in present])
        for name, metric in (("auroc", tm.binary_auroc), ("average_precision", tm.binary_average_precision))
    }
    hits = (chosen == labels).float()
    f1 = tm.multiclass_f1_score(chosen, labels, num_classes=classes, average="none", **options)
    return {
        "auroc": ranks["auroc"] if len(present) > 1 else math.nan,
        "average_precision": ranks["average_precision"],
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float(np.mean([float(hits[labels == k].mean()) for k in present])),
        "f1": _mean_of_defined([float(f1[k]) for k in present]),
        "brier": float((probabilities - truth).square().sum(dim=1).mean()),
        "ece": float(
            tm.multiclass_calibration_error(
                probabilities, labels, num_classes=classes, n_bins=CALIBRATION_BINS, **options
            )
        ),
    }


def _mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
