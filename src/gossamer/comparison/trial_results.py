"""The result of one trial, read from its folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.comparison.folder import STAGE_OF_PRECISION, STAGES, CompareFolder, Trial, TrialStage
from gossamer.comparison.scores import Scores
from gossamer.comparison.tasks import ComparisonTask
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import read_json
from gossamer.variants import RuntimePrecision

_UNREADABLE = "cannot be read"
ROUNDING = 0.005
"""Largest difference of a metric between a run's summary and its table, whose probabilities have six places."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Progress and result of a trial.

    Attributes:
        trial: Trial.
        stages: Stages that succeeded.
        failed: Stage that failed, with its reason, in one line; None without a failure.
        scores: Outputs of the network for each patient; None before the training has ended.
        quality: Metric that decides, with its interval, from the run's own report.
        trivial: The same metric of the trivial answer.
        split: Name of the evaluated split.
        drop: Loss of the metric by int8 on that split, with the interval of the paired difference.
        epochs: Number of trained epochs.
        best_epoch: Epoch whose weights were kept.
        training_seconds: Time of the training in seconds.
        wanted: Stages of the trial in the plan.
    """

    trial: Trial
    stages: tuple[TrialStage, ...]
    failed: str | None
    scores: Scores | None = None
    quality: Estimate | None = None
    trivial: float | None = None
    split: str | None = None
    drop: Estimate | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    training_seconds: float | None = None
    wanted: tuple[TrialStage, ...] = STAGES

    @property
    def is_unreadable(self) -> bool:
        """Whether the trial succeeded but its output cannot be read."""
        return self.failed is not None and self.failed.startswith(_UNREADABLE)

    @property
    def state(self) -> Literal["waiting", "under way", "done", "failed"]:
        """Progress of the trial."""
        if self.failed:
            return "failed"
        if not self.stages:
            return "waiting"
        return "done" if set(self.wanted) <= set(self.stages) else "under way"

    def has(self, precision: RuntimePrecision) -> bool:
        """Return whether the network exists in a precision."""
        return self.scores is not None and STAGE_OF_PRECISION[precision] in self.stages

    def lists(self, precision: RuntimePrecision) -> bool:
        """Return whether the network exists in a precision, or is planned in it."""
        return STAGE_OF_PRECISION[precision] in (*self.wanted, *self.stages)

    def without_scores(self, reason: str) -> TrialResult:
        """Return the trial as a failed one.

        Args:
            reason: Reason of the failure.
        """
        return TrialResult(trial=self.trial, stages=(), failed=reason, wanted=self.wanted)


def read_trial(
    folder: CompareFolder, trial: Trial, task: ComparisonTask, wanted: tuple[TrialStage, ...] = STAGES
) -> TrialResult:
    """Return the result of a trial. Unreadable output counts as a failure, so that other trials can be compared.

    Args:
        folder: Folder of the comparison.
        trial: Trial.
        task: Functions of the task.
        wanted: Stages of the trial in the plan.
    """
    stages: list[TrialStage] = []
    failed: str | None = None
    try:
        for stage in STAGES:
            state = folder.read_state(trial, stage)
            if state is not None and state.failed is None:
                stages.append(stage)
            elif state is not None:
                failed = failed or f"{stage}: {state.failed}"
        result = TrialResult(trial=trial, stages=tuple(stages), failed=failed, wanted=wanted)
        return _add_outputs(folder, result, task) if "train" in stages else result
    except GossamerError as error:
        return TrialResult(trial=trial, stages=(), failed=f"{_UNREADABLE}: {error}", wanted=wanted)


def is_damaged(folder: CompareFolder, trial: Trial, task: ComparisonTask, stage: TrialStage) -> bool:
    """Return whether the output of a stage that succeeded cannot be read.

    Args:
        folder: Folder of the comparison.
        trial: Trial.
        task: Functions of the task.
        stage: Stage that succeeded.
    """
    try:
        if stage == "train":
            _add_outputs(folder, TrialResult(trial=trial, stages=("train",), failed=None), task)
        elif stage == "export":
            read_json(folder.bundle_path(trial, "float32") / "manifest.json")
        else:
            _read_drop(folder, trial, task.METRIC)
    except (GossamerError, KeyError, TypeError, AttributeError):
        return True
    return False


def _add_outputs(folder: CompareFolder, result: TrialResult, task: ComparisonTask) -> TrialResult:
    run = folder.run_path(result.trial)
    summary = read_json(run / "summary.json")
    try:
        found = summary["metrics"][task.METRIC]
        quality = Estimate(*(_number_or_nan(found[key]) for key in ("value", "low", "high")))
        scores = task.read_scores(run, summary)
        if abs(scores.value() - quality.value) > ROUNDING:
            problem = f"its table gives {scores.value():.4f} and its summary {quality.value:.4f}; they must agree"
            raise GossamerError(ErrorCode.INTEGRITY, run, problem, "train the trial again")
        return dataclasses.replace(
            result,
            scores=scores,
            quality=quality,
            trivial=summary["trivial"][task.METRIC],
            split=summary["split"],
            drop=_read_drop(folder, result.trial, task.METRIC) if "quantize" in result.stages else None,
            epochs=summary["training"]["epochs"],
            best_epoch=summary["training"]["best_epoch"],
            training_seconds=summary["training"]["seconds"],
        )
    except (KeyError, TypeError) as error:
        raise GossamerError(ErrorCode.FORMAT, run, f"is not a run ({error!r})", "train the trial again") from error


def _read_drop(folder: CompareFolder, trial: Trial, metric: str) -> Estimate | None:
    """Return the loss by int8 on the evaluated split, which is the test split if there is one."""
    manifest = read_json(folder.bundle_path(trial, "int8") / "manifest.json")
    record: Mapping[str, Any] = manifest.get("quantization") or {}
    found = record.get("test") or record.get("validation")
    if not found or found["metric"] != metric:
        return None
    return Estimate(*(_number_or_nan(found["drop"][key]) for key in ("value", "low", "high")))


def _number_or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
