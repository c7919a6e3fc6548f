"""What one trial of a comparison came to, read from its folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.comparison.folder import STAGE_OF_PRECISION, STAGES, CompareFolder, Trial, TrialStage
from gossamer.comparison.scores import PRIMARY_METRICS, Scores, read_scores
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import read_json
from gossamer.variants import RuntimePrecision

_UNREADABLE = "cannot be read"
ROUNDING = 0.005
"""Largest difference of a metric between a run's summary and its table, whose probabilities have six places."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How far a trial has come, and what it is worth.

    Attributes:
        trial: which.
        stages: that ended well.
        failed: the stage that failed, and why, in one line.
        scores: what the network said of each patient; None before it is trained.
        quality: the metric that decides, with its interval, as the run's own report has it.
        trivial: the same of the trivial answer.
        split: that was evaluated.
        drop: how much worse 8 bits are on that split, with the interval of the paired difference.
        epochs: that it was trained.
        best_epoch: whose weights were kept.
        training_seconds: of its training.
        wanted: the stages that the plan has for it.
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
    def failed_to_be_read(self) -> bool:
        """Whether it ended well, and what it left cannot be read."""
        return self.failed is not None and self.failed.startswith(_UNREADABLE)

    @property
    def state(self) -> Literal["waiting", "under way", "done", "failed"]:
        """How far it has come, in a word."""
        if self.failed:
            return "failed"
        if not self.stages:
            return "waiting"
        return "done" if set(self.wanted) <= set(self.stages) else "under way"

    def has(self, precision: RuntimePrecision) -> bool:
        """Return whether the network is there in a precision."""
        return self.scores is not None and STAGE_OF_PRECISION[precision] in self.stages

    def shows(self, precision: RuntimePrecision) -> bool:
        """Return whether the network is there in a precision, or shall be."""
        return STAGE_OF_PRECISION[precision] in (*self.wanted, *self.stages)

    def without_scores(self, reason: str) -> TrialResult:
        """Return the trial as one that failed."""
        return TrialResult(trial=self.trial, stages=(), failed=reason, wanted=self.wanted)


def read_trial(folder: CompareFolder, trial: Trial, task: str, wanted: tuple[TrialStage, ...] = STAGES) -> TrialResult:
    """Return what a trial came to. What cannot be read has failed, so that the others can still be compared.

    Args:
        folder: of the comparison.
        trial: which.
        task: ``classify`` or ``segment``.
        wanted: the stages that the plan has for it.
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
        return _with_outputs(folder, result, task) if "train" in stages else result
    except GossamerError as error:
        return TrialResult(trial=trial, stages=(), failed=f"{_UNREADABLE}: {error}", wanted=wanted)


def is_damaged(folder: CompareFolder, trial: Trial, task: str, stage: TrialStage) -> bool:
    """Return whether what a stage left, which ended well, cannot be read."""
    try:
        if stage == "train":
            _with_outputs(folder, TrialResult(trial=trial, stages=("train",), failed=None), task)
        elif stage == "export":
            read_json(folder.bundle(trial, "float32") / "manifest.json")
        else:
            _read_drop(folder, trial, PRIMARY_METRICS[task][0])
    except (GossamerError, KeyError, TypeError, AttributeError):
        return True
    return False


def _with_outputs(folder: CompareFolder, result: TrialResult, task: str) -> TrialResult:
    run, metric = folder.run(result.trial), PRIMARY_METRICS[task][0]
    summary = read_json(run / "summary.json")
    try:
        found = summary["metrics"][metric]
        quality = Estimate(*(_number_or_nan(found[key]) for key in ("value", "low", "high")))
        scores = read_scores(run, task, summary)
        if abs(scores.value() - quality.value) > ROUNDING:
            problem = f"its table gives {scores.value():.4f}, its summary {quality.value:.4f}; they must agree"
            raise GossamerError(ErrorCode.INTEGRITY, run, problem, "train the trial again")
        return dataclasses.replace(
            result,
            scores=scores,
            quality=quality,
            trivial=summary["trivial"][metric],
            split=summary["split"],
            drop=_read_drop(folder, result.trial, metric) if "quantize" in result.stages else None,
            epochs=summary["training"]["epochs"],
            best_epoch=summary["training"]["best_epoch"],
            training_seconds=summary["training"]["seconds"],
        )
    except (KeyError, TypeError) as error:
        raise GossamerError(ErrorCode.FORMAT, run, f"is not a run ({error!r})", "train the trial again") from error


def _read_drop(folder: CompareFolder, trial: Trial, metric: str) -> Estimate | None:
    """Return what 8 bits lose on the evaluated split: the test split where there is one."""
    manifest = read_json(folder.bundle(trial, "int8") / "manifest.json")
    record: Mapping[str, Any] = manifest.get("quantization") or {}
    found = record.get("test") or record.get("validation")
    if not found or found["metric"] != metric:
        return None
    return Estimate(*(_number_or_nan(found["drop"][key]) for key in ("value", "low", "high")))


def _number_or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
