"""From logits to an answer, in numpy: probabilities, the classes that are predicted, and the table of them."""

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

HALF = 0.5
"""Without thresholds, and for a label that the validation split says nothing of."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Above which probability each label counts as present.

    Attributes:
        rule: what the thresholds maximize on the validation split.
        labels: every class of a multi-label network; the positive one of two classes.
        values: of the labels, each in 0..1; a probability must lie above, not at it.
        kept: labels that keep 0.5, since no validation image has them, or every one.

    Raises:
        GossamerError: ``E-VALUE``.
    """

    rule: Rule
    labels: tuple[str, ...]
    values: tuple[float, ...]
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.values) or len(set(self.labels)) != len(self.labels):
            problem = f"{len(self.labels)} labels, {len(self.values)} values; one value a label is wanted, none twice"
            raise GossamerError(ErrorCode.VALUE, "thresholds", problem, "restore the file from a copy")
        for label, value in zip(self.labels, self.values, strict=True):
            if not 0 <= value <= 1:
                problem = f"the threshold of {label!r} is {value}, a probability in 0..1 is wanted"
                raise GossamerError(ErrorCode.VALUE, "thresholds", problem, "restore the file from a copy")
        if set(self.kept) - set(self.labels):
            problem = f"{', '.join(sorted(set(self.kept) - set(self.labels)))} is kept at 0.5 and is no label"
            raise GossamerError(ErrorCode.VALUE, "thresholds", problem, "restore the file from a copy")

    def array(self) -> np.ndarray:
        """Return the thresholds ``(labels,)`` in float64: rounded to float32, one could meet a score."""
        return np.array(self.values, np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return the thresholds as data; the values survive exactly."""
        return config.to_json(self)

    @classmethod
    def from_json(cls, data: Any, where: str, labels: Sequence[str]) -> Thresholds:
        """Return the thresholds that ``to_json`` wrote.

        Args:
            data: what it returned.
            where: what is being read, for the error.
            labels: those that the network's outputs need, in order: see ``thresholded_classes``.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-VALUE``, where ``data`` are no thresholds, or those of other labels.
        """
        thresholds = config.from_json(cls, data, where)
        if thresholds.labels != tuple(labels):
            problem = f"holds thresholds of {', '.join(thresholds.labels)}, the network has {', '.join(labels)}"
            raise GossamerError(ErrorCode.VALUE, where, problem, "restore the file from a copy")
        return thresholds


def thresholded_classes(classes: Sequence[str], *, multi_label: bool) -> tuple[str, ...]:
    """Return the labels that have a threshold: all of them, the second of two classes, or none of more classes."""
    if multi_label:
        return tuple(classes)
    return (classes[1],) if len(classes) == 2 else ()


def compute_probabilities(logits: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Return the probabilities of logits ``(batch, classes, ...)``, float32: a sigmoid for each, or one softmax.

    Neither overflows: the softmax is that of the differences from the largest logit, which it does not depend on, and
    the sigmoid is written with the hyperbolic tangent, ``(1 + tanh(x / 2)) / 2``.
    """
    logits = logits.astype(np.float32, copy=False)
    if multi_label:
        values = np.tanh(logits * np.float32(0.5))
        values += 1
        values *= np.float32(0.5)
        return values
    with np.errstate(invalid="ignore"):  # of infinite logits NaN, which is refused with its image's name
        values = logits - logits.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values


def require_finite(probabilities: np.ndarray, source: str) -> None:
    """Refuse what a network says of an image where that is no number, whatever the cause.

    Args:
        probabilities: of any shape; their sum is finite exactly where all of them are.
        source: the image.

    Raises:
        GossamerError: ``E-VALUE``.
    """
    if not np.isfinite(probabilities.sum()):
        problem = "gets probabilities that are NaN or infinite"
        raise GossamerError(ErrorCode.VALUE, source, problem, "check its values, then the model with other images")


def chosen_classes(probabilities: np.ndarray, *, multi_label: bool, thresholds: Thresholds | None = None) -> np.ndarray:
    """Return which classes are predicted: the most probable one, or of several labels each above its threshold.

    Args:
        probabilities: ``(samples, classes)``.
        multi_label: whether a sample may have any number of classes.
        thresholds: one half for every label if left out. Of two classes the larger probability decides nevertheless:
            the threshold of the second says where its sensitivity and specificity are in balance.
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
