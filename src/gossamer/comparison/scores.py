"""What a trained network said of each patient, and its metric under any weights of the images.

Weights make resampling cheap: a bootstrap draw is a count of each image, a permutation is a choice between two models'
outputs, and both are one sort of the outputs and sums over it.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes

PRIMARY_METRICS = {"classify": ("auroc", "AUROC"), "segment": ("dice", "Dice")}
"""The metric that a comparison is decided by, of each task, and how it is shown."""
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Scores(ABC):
    """The outputs of one network on one split.

    Attributes:
        ids: of the images or cases.
        groups: the patient of each; one of unknown patient stands for itself.
        outputs: ``(samples, columns)``: probabilities, or the Dice of each class.
        truth: ``(samples, columns)``: whether the sample has the class; of masks, whether its Dice is defined.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    outputs: np.ndarray
    truth: np.ndarray

    @abstractmethod
    def _column(self, column: int, weights: np.ndarray) -> np.ndarray:
        """Return the metric of one class ``(draws,)``; NaN where it is undefined."""

    @abstractmethod
    def comparable(self) -> np.ndarray:
        """Return the outputs on a scale on which those of two networks can change places."""

    def metric(self, weights: np.ndarray) -> np.ndarray:
        """Return the mean of the metric over the classes for which it is defined, of each row of weights.

        Args:
            weights: ``(draws, samples)``, 0 or more.

        Returns:
            ``(draws,)`` in float64.
        """
        step = max(1, _CHUNK // max(1, weights.shape[1]))
        parts = [self._whole(weights[begin : begin + step]) for begin in range(0, len(weights), step)]
        return np.concatenate(parts)

    def value(self) -> float:
        """Return the metric of the split itself."""
        return float(self.metric(np.ones((1, len(self.ids))))[0])

    def same_cases(self, other: Scores) -> bool:
        """Return whether both speak of the same cases in the same order."""
        return self.ids == other.ids and self.groups == other.groups and self.outputs.shape == other.outputs.shape

    def beside(self, other: Scores) -> Scores:
        """Return the outputs of two networks as one table of twice the samples, to choose from by weights."""
        outputs = np.concatenate([self.comparable(), other.comparable()])
        truth = np.concatenate([self.truth, other.truth])
        return type(self)(self.ids + other.ids, self.groups + other.groups, outputs, truth)

    def _whole(self, weights: np.ndarray) -> np.ndarray:
        columns = np.stack([self._column(k, weights) for k in range(self.outputs.shape[1])])
        defined = ~np.isnan(columns)
        total = np.where(defined, columns, 0.0).sum(axis=0)
        return np.divide(total, defined.sum(axis=0), out=np.full(len(weights), np.nan), where=defined.any(axis=0))


class RankScores(Scores):
    """Probabilities of classes, judged by the area under the ROC curve: macro average, ties count one half."""

    def _column(self, column: int, weights: np.ndarray) -> np.ndarray:
        order = np.argsort(self.outputs[:, column], kind="stable")
        sorted_outputs = self.outputs[order, column]
        begins = np.flatnonzero(np.append(True, sorted_outputs[1:] != sorted_outputs[:-1]))
        w, truth = weights[:, order].astype(np.float64), self.truth[order, column].astype(bool)
        positive, negative = (np.add.reduceat(w * variant, begins, axis=1) for variant in (truth, ~truth))
        won = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)

    def comparable(self) -> np.ndarray:
        """Return the rank of each probability in its column, the mean of equal ones: the curve does not change."""
        columns = []
        for values in self.outputs.T:
            _, place, count = np.unique(values, return_inverse=True, return_counts=True)
            columns.append((np.cumsum(count) - (count - 1) / 2)[place])
        return np.stack(columns, axis=1)


class MeanScores(Scores):
    """Overlap of each case and class, judged by the mean over classes of the means over cases."""

    def _column(self, column: int, weights: np.ndarray) -> np.ndarray:
        defined = self.truth[:, column].astype(bool)
        w = weights[:, defined].astype(np.float64)
        amount = w.sum(axis=1)
        return np.divide(w @ self.outputs[defined, column], amount, out=np.full(len(w), np.nan), where=amount > 0)

    def comparable(self) -> np.ndarray:
        """Return the overlaps as they are."""
        return self.outputs


def read_scores(run: Path, task: str, summary: dict[str, Any]) -> Scores:
    """Return what the network of a run said of the evaluated split.

    Args:
        run: its folder.
        task: ``classify`` or ``segment``.
        summary: of the run.

    Raises:
        GossamerError: ``E-MISSING``, or ``E-FORMAT`` where the table is not one of this task.
    """
    path = run / ("predictions.csv" if task == "classify" else "cases.csv")
    rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode())))
    read: Callable[..., Scores] = _read_probabilities if task == "classify" else _read_overlaps
    try:
        return read(rows, summary)
    except (KeyError, ValueError, IndexError) as error:
        problem = f"is not a table of a run ({error!r})"
        raise GossamerError(ErrorCode.FORMAT, path, problem, "train the trial again") from error


def _read_probabilities(rows: Sequence[dict[str, str]], summary: dict[str, Any]) -> RankScores:
    classes = list(summary["labels"])  # of two classes the second alone
    outputs = np.array([[float(row[f"p({name})"]) for name in classes] for row in rows])
    truth = np.array([[name in row["truth"].split("|") for name in classes] for row in rows])
    return RankScores(tuple(row["id"] for row in rows), tuple(_patient_of(row) for row in rows), outputs, truth)


def _read_overlaps(rows: Sequence[dict[str, str]], summary: dict[str, Any]) -> MeanScores:
    classes = list(summary["per_class"])
    first = [row for row in rows if row["class"] == classes[0]]
    ids = [row["id"] for row in first]
    place = {name: number for number, name in enumerate(ids)}
    outputs = np.full((len(ids), len(classes)), np.nan)
    for row in rows:
        if row["dice"]:  # empty: neither the truth nor the prediction holds the class
            outputs[place[row["id"]], classes.index(row["class"])] = float(row["dice"])
    return MeanScores(tuple(ids), tuple(_patient_of(row) for row in first), outputs, ~np.isnan(outputs))


def _patient_of(row: dict[str, str]) -> str:
    return f"patient {row['patient']}" if row["patient"] else f"sample {row['id']}"
