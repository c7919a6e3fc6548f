"""Outputs of a trained network for each patient, and its metric under any weights of the samples.

Weights make resampling cheap: a bootstrap draw is a count of each sample, and a permutation is a choice between the
outputs of two networks. Both need one sort of the outputs and sums over it.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes

_CHUNK = 4_000_000
"""Number of weights that are handled at a time, which limits memory."""


@dataclass(frozen=True)
class Scores(ABC):
    """Outputs of one network on one split.

    Attributes:
        ids: Identifiers of the images or cases.
        groups: Patient of each sample; a sample of an unknown patient is a group by itself.
        outputs: Probabilities, or the Dice of each class, ``(samples, columns)``.
        truth: Whether each sample has the class, or for masks whether its Dice is defined, ``(samples, columns)``.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    outputs: np.ndarray
    truth: np.ndarray

    @abstractmethod
    def _column(self, column: int, weights: np.ndarray) -> np.ndarray:
        """Return the metric of one class for each row of weights, ``(draws,)``; NaN if it is undefined."""

    @abstractmethod
    def exchangeable_outputs(self) -> np.ndarray:
        """Return the outputs on a scale on which two networks can exchange them."""

    def metric(self, weights: np.ndarray) -> np.ndarray:
        """Return the mean over the classes with a defined metric, for each row of weights.

        Args:
            weights: Weights of the samples, 0 or more, ``(draws, samples)``.

        Returns:
            Array ``(draws,)`` in float64.
        """
        step = max(1, _CHUNK // max(1, weights.shape[1]))
        parts = [self._mean_of_columns(weights[begin : begin + step]) for begin in range(0, len(weights), step)]
        return np.concatenate(parts)

    def value(self) -> float:
        """Return the metric of the split."""
        return float(self.metric(np.ones((1, len(self.ids))))[0])

    def same_cases(self, other: Scores) -> bool:
        """Return whether both hold the same samples in the same order."""
        return self.ids == other.ids and self.groups == other.groups and self.outputs.shape == other.outputs.shape

    def stack_with(self, other: Scores) -> Scores:
        """Return the outputs of two networks as one table of twice the samples, from which weights choose."""
        outputs = np.concatenate([self.exchangeable_outputs(), other.exchangeable_outputs()])
        truth = np.concatenate([self.truth, other.truth])
        return type(self)(self.ids + other.ids, self.groups + other.groups, outputs, truth)

    def _mean_of_columns(self, weights: np.ndarray) -> np.ndarray:
        columns = np.stack([self._column(k, weights) for k in range(self.outputs.shape[1])])
        defined = ~np.isnan(columns)
        total = np.where(defined, columns, 0.0).sum(axis=0)
        return np.divide(total, defined.sum(axis=0), out=np.full(len(weights), np.nan), where=defined.any(axis=0))


class RankScores(Scores):
    """Probabilities of classes, with the area under the ROC curve: macro average, ties count one half."""

    def _column(self, column: int, weights: np.ndarray) -> np.ndarray:
        order = np.argsort(self.outputs[:, column], kind="stable")
        sorted_outputs = self.outputs[order, column]
        begins = np.flatnonzero(np.append(True, sorted_outputs[1:] != sorted_outputs[:-1]))
        w, truth = weights[:, order].astype(np.float64), self.truth[order, column].astype(bool)
        positive, negative = (np.add.reduceat(w * chosen, begins, axis=1) for chosen in (truth, ~truth))
        won = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)

    def exchangeable_outputs(self) -> np.ndarray:
        """Return the rank of each probability in its column, with mean ranks for ties; the curve does not change."""
        columns = []
        for values in self.outputs.T:
            _, place, count = np.unique(values, return_inverse=True, return_counts=True)
            columns.append((np.cumsum(count) - (count - 1) / 2)[place])
        return np.stack(columns, axis=1)


class MeanScores(Scores):
    """Overlap of each case and class, with the mean over classes of the means over cases."""

    def _column(self, column: int, weights: np.ndarray) -> np.ndarray:
        defined = self.truth[:, column].astype(bool)
        w = weights[:, defined].astype(np.float64)
        amount = w.sum(axis=1)
        return np.divide(w @ self.outputs[defined, column], amount, out=np.full(len(w), np.nan), where=amount > 0)

    def exchangeable_outputs(self) -> np.ndarray:
        """Return the overlaps without a change."""
        return self.outputs


AnyScores = TypeVar("AnyScores", bound=Scores)


def read_table(path: Path, parse: Callable[[Sequence[dict[str, str]]], AnyScores]) -> AnyScores:
    """Return the scores of a table with headings.

    Args:
        path: CSV file of a run.
        parse: Function that makes scores of its rows.

    Raises:
        GossamerError: ``E-MISSING``, or ``E-FORMAT`` for a table of another kind.
    """
    rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode())))
    try:
        return parse(rows)
    except (KeyError, ValueError, IndexError) as error:
        problem = f"is not a table of a run ({error!r})"
        raise GossamerError(ErrorCode.FORMAT, path, problem, "train the trial again") from error


def patient_of(row: dict[str, str]) -> str:
    """Return the patient of a row; a sample of an unknown patient is a patient by itself."""
    return f"patient {row['patient']}" if row["patient"] else f"sample {row['id']}"
