"""Metrics of classification.

With two classes the second is the positive one. With more classes, and with several labels, AUROC, average precision
and F1 are macro averages over the classes for which they are defined. A metric that is undefined, such as the AUROC of
a single class, is NaN and never a number that looks like one.

Each class is also measured by itself, against all others if there are more than two.
"""

from __future__ import annotations

import math

import numpy as np

CALIBRATION_BINS = 15

METRICS: dict[str, tuple[str, bool]] = {
    "auroc": ("AUROC", True),
    "average_precision": ("Average precision", True),
    "accuracy": ("Accuracy", True),
    "balanced_accuracy": ("Balanced accuracy", True),
    "f1": ("F1", True),
    "brier": ("Brier score", False),
    "ece": ("Expected calibration error", False),
}
"""Label of each metric, and whether larger is better."""

LABEL_METRICS: dict[str, str] = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F1",
}
"""Label of each metric of one class. The last three depend on its threshold; a class that is predicted as the most
probable one has none."""


def classification_metrics(
    probabilities: np.ndarray, targets: np.ndarray, *, multi_label: bool, thresholds: np.ndarray | None = None
) -> dict[str, float]:
    """Return every metric of ``METRICS``.

    Args:
        probabilities: Probabilities ``(samples, classes)``; rows sum to 1 unless multi-label.
        targets: Array ``(samples, classes)`` of 0 and 1.
        multi_label: Whether a sample may have any number of classes.
        thresholds: Thresholds ``(classes,)`` of multi-label accuracy, balanced accuracy and F1 (default: one half).
            Single labels are decided by the largest probability.
    """
    return metrics_and_labels(probabilities, targets, multi_label=multi_label, thresholds=thresholds)[0]


def metrics_and_labels(
    probabilities: np.ndarray, targets: np.ndarray, *, multi_label: bool, thresholds: np.ndarray | None = None
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return every metric of ``METRICS``, and those of ``LABEL_METRICS`` for each class.

    Args:
        probabilities: Probabilities ``(samples, classes)``; rows sum to 1 unless multi-label.
        targets: Array ``(samples, classes)`` of 0 and 1.
        multi_label: Whether a sample may have any number of classes.
        thresholds: Thresholds as for ``classification_metrics``; with two classes ``(1,)``, which moves the metrics of
            the label alone: those of the whole follow the larger probability.

    Returns:
        The metrics; and one entry for each class, or with two classes one entry for the second.
    """
    scores, truth = probabilities.astype(np.float32), targets > 0
    count = truth.shape[1]
    if multi_label:
        decided = probabilities.astype(np.float64) > (0.5 if thresholds is None else thresholds)
        columns = [_binary_metrics(scores[:, k], decided[:, k], truth[:, k]) for k in range(count)]
        whole = {name: _mean_of_defined([column[name] for column in columns]) for name in METRICS}
        both = [column["balanced_accuracy"] for column in columns if not math.isnan(column["auroc"])]
        whole["balanced_accuracy"] = _mean_of_defined(both)  # the share of correct negatives alone is not balanced
        return whole, [{name: column[name] for name in LABEL_METRICS} for column in columns]
    if count == 2:
        whole = _binary_metrics(scores[:, 1], probabilities[:, 1] > 0.5, truth[:, 1])
        decided = probabilities[:, 1].astype(np.float64) > (0.5 if thresholds is None else thresholds[0])
        label = whole | _decision_metrics(decided, truth[:, 1])
        return {name: whole[name] for name in METRICS}, [{name: label[name] for name in LABEL_METRICS}]
    labels = [_rank_metrics(scores[:, k], truth[:, k]) for k in range(count)]
    return _multiclass_metrics(scores, truth, labels), labels


def validation_metrics(probabilities: np.ndarray, targets: np.ndarray, *, multi_label: bool) -> dict[str, float]:
    """Return the AUROC and the accuracy, under names that begin with ``val_``."""
    metrics = classification_metrics(probabilities, targets, multi_label=multi_label)
    return {"val_auroc": metrics["auroc"], "val_accuracy": metrics["accuracy"]}


def _rank_metrics(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the area under the ROC curve and the average precision; equal scores are one step of the curves."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    order = np.argsort(scores)[::-1]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(truth[order])[ends].astype(np.float64)
    called = ends + 1.0
    false_alarms = called - hits
    gains, losses = np.diff(hits, prepend=0.0), np.diff(false_alarms, prepend=0.0)
    both = positives and negatives
    return {
        "auroc": float(((hits - gains / 2) * losses).sum()) / (positives * negatives) if both else math.nan,
        "average_precision": float((gains * hits / called).sum()) / positives if positives else math.nan,
    }


def _decision_metrics(decided: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    positives, hits = int(truth.sum()), int((decided & truth).sum())
    negatives, rejected = len(truth) - positives, int((~decided & ~truth).sum())
    return {
        "sensitivity": hits / positives if positives else math.nan,
        "specificity": rejected / negatives if negatives else math.nan,
        "f1": 2 * hits / (positives + int(decided.sum())) if positives else math.nan,
    }


def _binary_metrics(scores: np.ndarray, decided: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    decisions = _decision_metrics(decided, truth)
    recalls = [value for name in ("specificity", "sensitivity") if not math.isnan(value := decisions[name])]
    return (
        _rank_metrics(scores, truth)
        | decisions
        | {
            "accuracy": float((decided == truth).mean()),
            "balanced_accuracy": float(np.mean(recalls)),
            "brier": float(np.square(scores - truth.astype(np.float64)).mean()),
            "ece": _calibration_error(scores, truth),
        }
    )


def _multiclass_metrics(
    probabilities: np.ndarray, truth: np.ndarray, labels: list[dict[str, float]]
) -> dict[str, float]:
    wanted, chosen = truth.argmax(axis=1), probabilities.argmax(axis=1)
    hits = chosen == wanted
    sizes, called, right = (
        np.bincount(numbers, minlength=truth.shape[1]) for numbers in (wanted, chosen, wanted[hits])
    )
    present = sizes > 0
    return {
        "auroc": _mean_of_defined([label["auroc"] for label in labels]),
        "average_precision": _mean_of_defined([label["average_precision"] for label in labels]),
        "accuracy": float(hits.mean()),
        "balanced_accuracy": float((right[present] / sizes[present]).mean()),
        "f1": float((2 * right[present] / (sizes[present] + called[present])).mean()),
        "brier": float(np.square(probabilities - truth.astype(np.float64)).sum(axis=1).mean()),
        "ece": _calibration_error(probabilities.max(axis=1), hits),
    }


def _calibration_error(confidences: np.ndarray, correct: np.ndarray) -> float:
    """Return the mean difference of confidence and accuracy over equally wide bins, weighted by their samples."""
    bins = np.searchsorted(_BIN_STARTS, confidences, side="right")
    size = CALIBRATION_BINS + 2
    differences = np.bincount(bins, confidences, size) - np.bincount(bins, correct, size)
    return float(np.abs(differences).sum() / len(confidences))


def _bin_starts() -> np.ndarray:
    """Return the limits of the bins in float32, rounded as torch.linspace rounds them.

    A score that equals a limit must fall into the same bin everywhere.
    """
    step = float(np.float32(1) / np.float32(CALIBRATION_BINS))
    upward = np.arange(CALIBRATION_BINS + 1)
    limits = np.where(upward < (CALIBRATION_BINS + 1) // 2, step * upward, 1 - step * upward[::-1])
    return limits.astype(np.float32)


_BIN_STARTS = _bin_starts()


def _mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
