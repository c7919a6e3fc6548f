"""The two tasks as far as evaluating is concerned: one table, looked up by the task of a predictor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gossamer.evaluation import classification, segmentation
from gossamer.evaluation.results import EvaluationResults
from gossamer.task import TaskName

EVALUATION_TASKS: Mapping[TaskName, Callable[..., EvaluationResults]] = {
    "classify": classification.evaluate_data,
    "segment": segmentation.evaluate_data,
}
"""Function that evaluates a predictor on a data set, for each task."""
