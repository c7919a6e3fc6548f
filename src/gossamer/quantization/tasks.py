"""The two tasks for quantization: the modules ``classification`` and ``segmentation``, looked up once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from gossamer.errors import ErrorCode, GossamerError
from gossamer.quantization import classification, segmentation
from gossamer.quantization.accuracy_loss import Float32Reference
from gossamer.task import TaskName


class QuantizationTask(Protocol):
    """What quantization needs to know of a task; the functions are documented in the two modules."""

    @property
    def LABEL(self) -> str:  # noqa: N802 -- a constant of a module
        """Name of the task in messages."""
        ...

    @property
    def INPUT_NOUN(self) -> str:  # noqa: N802
        """Noun for what the network sees: images or windows."""
        ...

    @property
    def LIMITED_METRICS(self) -> tuple[str, ...]:  # noqa: N802
        """Metrics whose degradation can be limited."""
        ...

    @property
    def DEFAULT_METRIC(self) -> str:  # noqa: N802
        """Metric whose degradation is limited by default."""
        ...

    def draw_inputs(
        self, predictor: Any, dataset: Any, split: str, count: int, seed: int
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return up to ``count`` network inputs of a split, and the ids of their samples."""
        ...

    def measure_reference(self, predictor: Any, dataset: Any, split: str, metric: str, seed: int) -> Float32Reference:
        """Return the float32 network evaluated on a split."""
        ...

    def measure_quality(self, predictor: Any, dataset: Any, split: str, seed: int) -> dict[str, Any]:
        """Return every metric of a split."""
        ...


_CLASSIFICATION: QuantizationTask = classification
_SEGMENTATION: QuantizationTask = segmentation
QUANTIZATION_TASKS: dict[TaskName, QuantizationTask] = {"classify": _CLASSIFICATION, "segment": _SEGMENTATION}


def choose_metric(task: TaskName, metric: str | None) -> str:
    """Return the metric whose degradation is limited.

    Args:
        task: Name of the task.
        metric: Name of the metric (default: ``auroc`` for classification, ``dice`` for segmentation).

    Raises:
        GossamerError: ``E-CONFIG`` for a metric that is not one of the task.
    """
    allowed = QUANTIZATION_TASKS[task].LIMITED_METRICS
    if metric is None:
        return QUANTIZATION_TASKS[task].DEFAULT_METRIC
    if metric not in allowed:
        problem = f"{metric!r} is not a metric of {QUANTIZATION_TASKS[task].LABEL} whose loss can be limited"
        raise GossamerError(ErrorCode.CONFIG, "metric", problem, f"use one of {', '.join(allowed)}")
    return metric
