"""Comparison of segmentation networks: their metric and their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.comparison.scores import MeanScores, patient_of, read_table

METRIC: str = "dice"
METRIC_LABEL: str = "Dice"
"""The metric that decides a comparison, and its name for people."""
TIMED_SAMPLES: int = 1
"""Number of training samples whose reading is timed."""
SAMPLE_NAME: str = "case"
TRIVIAL_ANSWER: str = "an empty mask"
TESTED_DIFFERENCE: str = "difference"
"""What a permutation test compares."""


def read_scores(run: Path, summary: dict[str, Any]) -> MeanScores:
    """Return the overlaps of a trained network on the evaluated split.

    Args:
        run: Run folder.
        summary: Content of its ``summary.json``.

    Raises:
        GossamerError: ``E-MISSING``, or ``E-FORMAT`` for a table of another kind.
    """

    def parse(rows: Sequence[dict[str, str]]) -> MeanScores:
        classes = list(summary["per_class"])
        first = [row for row in rows if row["class"] == classes[0]]
        ids = [row["id"] for row in first]
        place = {name: number for number, name in enumerate(ids)}
        outputs = np.full((len(ids), len(classes)), np.nan)
        for row in rows:
            if row["dice"]:  # empty if neither the truth nor the prediction holds the class
                outputs[place[row["id"]], classes.index(row["class"])] = float(row["dice"])
        return MeanScores(tuple(ids), tuple(patient_of(row) for row in first), outputs, ~np.isnan(outputs))

    return read_table(run / "cases.csv", parse)
