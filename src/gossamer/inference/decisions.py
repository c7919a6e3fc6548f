"""From logits to predicted classes, in numpy: probabilities, thresholds and names."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError

Rule = Literal["f1", "youden"]

_RESTORE = "restore the file from a backup"
HALF = 0.5
"""Threshold of a label if none was chosen, or if the validation split cannot tell."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The probability above which each label counts as present.

    Attributes:
        rule: Criterion that the thresholds maximize on the validation split.
        labels: Names of the labels: every class of a multi-label network, or the positive one of two classes.
        values: Threshold of each label, in 0..1; a probability must be above it, not equal to it.
        kept: Labels that keep 0.5, since no validation image has them, or every one does.

    Raises:
        GossamerError: ``E-VALUE``.
    """

    rule: Rule
    labels: tuple[str, ...]
    values: tuple[float, ...]
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.values) or len(set(self.labels)) != len(self.labels):
            problem = f"{len(self.labels)} labels and {len(self.values)} values do not form one value for each label"
            raise GossamerError(ErrorCode.VALUE, "thresholds", problem, _RESTORE)
        for label, value in zip(self.labels, self.values, strict=True):
            if not 0 <= value <= 1:
                problem = f"the threshold of {label!r} is {value}, which is not a probability in 0..1"
                raise GossamerError(ErrorCode.VALUE, "thresholds", problem, _RESTORE)
        if set(self.kept) - set(self.labels):
            problem = f"{', '.join(sorted(set(self.kept) - set(self.labels)))} is kept at 0.5 and is not a label"
            raise GossamerError(ErrorCode.VALUE, "thresholds", problem, _RESTORE)

    def array(self) -> np.ndarray:
        """Return the thresholds ``(labels,)`` in float64: rounded to float32, one could equal a score."""
        return np.array(self.values, np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return the thresholds as data, without rounding."""
        return config.to_json(self)

    @classmethod
    def from_json(cls, data: Any, where: str, labels: Sequence[str]) -> Thresholds:
        """Return the thresholds that ``to_json`` wrote.

        Args:
            data: Thresholds as data.
            where: Path that is read, for errors.
            labels: Labels that the network's outputs need, in order: see ``thresholded_classes``.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-VALUE`` if ``data`` is not thresholds, or has other labels.
        """
        thresholds = config.from_json(cls, data, where)
        if thresholds.labels != tuple(labels):
            problem = f"has thresholds of {', '.join(thresholds.labels)}, the network has {', '.join(labels) or 'none'}"
            raise GossamerError(ErrorCode.VALUE, where, problem, _RESTORE)
        return thresholds


def thresholded_classes(classes: Sequence[str], *, multi_label: bool) -> tuple[str, ...]:
    """Return the labels with a threshold: all if multi-label, else the second of two classes, or none of more."""
    if multi_label:
        return tuple(classes)
    return (classes[1],) if len(classes) == 2 else ()


def compute_probabilities(logits: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Return the probabilities of logits ``(batch, classes, ...)``, float32.

    Neither form overflows: the softmax takes differences from the largest logit, which do not change it, and the
    sigmoid uses the hyperbolic tangent, ``(1 + tanh(x / 2)) / 2``.

    Args:
        logits: Logits of images or pixels; classes are the second axis.
        multi_label: Whether any number of classes may be present: a sigmoid for each class, else one softmax.
    """
    logits = logits.astype(np.float32, copy=False)
    if multi_label:
        values = np.tanh(logits * np.float32(0.5))
        values += 1
        values *= np.float32(0.5)
        return values
    with np.errstate(invalid="ignore"):  # infinite logits become NaN, which require_finite refuses
        values = logits - logits.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values


def require_finite(probabilities: np.ndarray, source: str) -> None:
    """Raise if a probability is not finite, whatever the cause.

    Args:
        probabilities: Array of any shape; its sum is finite exactly if all values are.
        source: Path of the image.

    Raises:
        GossamerError: ``E-VALUE``.
    """
    if not np.isfinite(probabilities.sum()):
        problem = "gets probabilities that are NaN or infinite"
        raise GossamerError(ErrorCode.VALUE, source, problem, "check its values, then the model with other images")


def chosen_classes(probabilities: np.ndarray, *, multi_label: bool, thresholds: Thresholds | None = None) -> np.ndarray:
    """Return which classes are predicted: the most probable one, or every label above its threshold.

    Args:
        probabilities: Probabilities ``(samples, classes)``.
        multi_label: Whether a sample may have any number of classes.
        thresholds: Thresholds of the labels (default: one half). Single labels are decided by the largest probability;
            the threshold of the second of two classes only marks where sensitivity and specificity are balanced.
    """
    if multi_label:
        return probabilities.astype(np.float64) > (HALF if thresholds is None else thresholds.array())
    return np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]


def join_names(chosen: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Return the chosen classes of each row, joined by ``|``; ``-`` for none."""
    return ["|".join(classes[int(k)] for k in np.flatnonzero(row)) or "-" for row in chosen]


def to_csv(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as CSV text."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue()
