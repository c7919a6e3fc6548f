"""What a comparison needs to know of each task, looked up once by the task's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from gossamer.comparison import classification, segmentation
from gossamer.comparison.scores import Scores
from gossamer.task import TaskName


class ComparisonTask(Protocol):
    """The functions and texts of ``comparison.classification`` and ``comparison.segmentation``."""

    METRIC: str
    METRIC_LABEL: str
    TIMED_SAMPLES: int
    SAMPLE_NAME: str
    TRIVIAL_ANSWER: str
    TESTED_DIFFERENCE: str

    @staticmethod
    def read_scores(run: Path, summary: dict[str, Any]) -> Scores:
        """Return the outputs of a trained network on the evaluated split."""
        ...


TASKS: dict[TaskName, ComparisonTask] = {"classify": classification, "segment": segmentation}
