"""The evaluation of a model on a data set, as the API returns it, and what both tasks share to make it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gossamer.data import SPLITS
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import require_new_file
from gossamer.summary import Result, SummaryTable


class Evaluation(Protocol):
    """The metrics of a model on one split: ``ClassificationEvaluation`` or ``SegmentationEvaluation``."""

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Metrics with their intervals."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as data."""
        ...

    def tables(self, source: str) -> tuple[SummaryTable, ...]:
        """Return the tables for people; ``source`` names the data."""
        ...


@dataclass(frozen=True, repr=False)
class EvaluationResults(Result):
    """The evaluation of a model on a data set.

    Attributes:
        evaluation: Metrics with their intervals.
        data: Path of the data set.
        facts: Origin of the model as data.
        notes: Remarks on the data and the model.
    """

    evaluation: Evaluation
    data: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Metrics with their intervals."""
        return self.evaluation.metrics

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as data."""
        notes = [note.to_json() for note in self.notes]
        return {**self.facts, "data": self.data, **self.evaluation.to_json(), "notes": notes}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the tables of the evaluation."""
        return self.evaluation.tables(self.data)


def require_options(split: str, out: Path | None) -> None:
    """Raise unless the split is one that a data set may have and the output can be written.

    Raises:
        GossamerError: ``E-CONFIG`` for another split, ``E-OUTPUT`` if the file exists or its folder does not.
    """
    if split not in (*SPLITS, "all"):
        problem = f"there is no split {split!r}"
        raise GossamerError(ErrorCode.CONFIG, "split", problem, f"use {', '.join(SPLITS)} or all")
    if out is not None:
        require_new_file(out)


def format_value(value: float) -> str:
    """Return a metric with three decimals, or a dash where it is undefined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def format_interval(estimate: Estimate) -> str:
    """Return the interval of a metric in words, or a dash where it is undefined."""
    return "–" if math.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"
