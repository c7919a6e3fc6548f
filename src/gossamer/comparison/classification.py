"""Comparison of classifiers: their metric and their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.comparison.scores import RankScores, patient_of, read_table

METRIC: str = "auroc"
METRIC_LABEL: str = "AUROC"
"""The metric that decides a comparison, and its name for people."""
TIMED_SAMPLES: int = 8
"""Number of training samples whose reading is timed."""
SAMPLE_NAME: str = "image"
TRIVIAL_ANSWER: str = "the class frequencies of the training split for every image"
TESTED_DIFFERENCE: str = "difference of ranks"
"""What a permutation test compares."""


def read_scores(run: Path, summary: dict[str, Any]) -> RankScores:
    """Return the probabilities of a trained network on the evaluated split.

    Args:
        run: Run folder.
        summary: Content of its ``summary.json``.

    Raises:
        GossamerError: ``E-MISSING``, or ``E-FORMAT`` for a table of another kind.
    """

    def parse(rows: Sequence[dict[str, str]]) -> RankScores:
        classes = list(summary["labels"])  # with two classes only the second
        outputs = np.array([[float(row[f"p({name})"]) for name in classes] for row in rows])
        truth = np.array([[name in row["truth"].split("|") for name in classes] for row in rows])
        return RankScores(tuple(row["id"] for row in rows), tuple(patient_of(row) for row in rows), outputs, truth)

    return read_table(run / "predictions.csv", parse)
