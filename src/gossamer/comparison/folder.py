"""What a comparison leaves on the disk: its plan, its trials, what was measured, and the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gossamer import config
from gossamer.files import read_json, write_json
from gossamer.profiling.figure import Figure
from gossamer.variants import PRECISIONS, RuntimePrecision, Variant

BASELINE = "softmax"
"""The mechanism that the others of the same network are compared with."""
TrialStage = Literal["train", "export", "quantize"]
STAGES: tuple[TrialStage, ...] = ("train", "export", "quantize")
"""What is done with a trial, in this order."""
STAGE_OF_PRECISION: dict[RuntimePrecision, TrialStage] = dict(zip(PRECISIONS, STAGES, strict=True))
"""The stage that makes each precision."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training: a row of the table with one seed."""

    variant: Variant
    seed: int


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """How far a trial has come.

    Attributes:
        stage: what was done last, or what failed.
        failed: why it stopped, in one line; None where it did not.
        seconds: of the work so far.
    """

    stage: TrialStage
    failed: str | None
    seconds: float


@dataclass(frozen=True)
class CompareFolder:
    """The folder of a comparison. Every file is written whole or not at all, so that it can be stopped anywhere.

    Below ``path``: ``plan.json``; of each trial, ``cells/<key>/`` with ``run/``, ``float32/``, ``int8/`` (bundles),
    ``state-<stage>.json`` and ``<stage>.log``; of each variant, ``measured/<key>.json``; then ``results.csv``,
    ``summary.json`` and ``report.html``.
    """

    path: Path

    @property
    def plan(self) -> Path:
        """What was asked for, and what follows from it."""
        return self.path / "plan.json"

    @property
    def table(self) -> Path:
        """One line a trial and precision."""
        return self.path / "results.csv"

    @property
    def summary(self) -> Path:
        """Everything that the page says, as data."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def trial(self, trial: Trial) -> Path:
        """Return the folder of a trial."""
        return self.path / "cells" / f"{trial.variant.key}-{trial.seed}"

    def run(self, trial: Trial) -> Path:
        """Return the run of a trial, as ``gossamer train`` writes it."""
        return self.trial(trial) / "run"

    def bundle(self, trial: Trial, precision: Literal["float32", "int8"]) -> Path:
        """Return a bundle of a trial."""
        return self.trial(trial) / precision

    def log(self, trial: Trial, stage: TrialStage) -> Path:
        """Return what a stage of a trial said."""
        return self.trial(trial) / f"{stage}.log"

    def read_state(self, trial: Trial, stage: TrialStage) -> TrialState | None:
        """Return how a stage of a trial ended; None where it did not end yet, or what it made is gone."""
        file = self._state(trial, stage)
        state = config.from_json(TrialState, read_json(file), str(file)) if file.exists() else None
        return None if state is not None and state.failed is None and self._lost(trial, stage) else state

    def write_state(self, trial: Trial, state: TrialState) -> None:
        """Keep how a stage of a trial ended."""
        write_json(self._state(trial, state.stage), config.to_json(state))

    def forget_state(self, trial: Trial, stage: TrialStage) -> None:
        """Remove how a stage of a trial ended, before it is done again."""
        self._state(trial, stage).unlink(missing_ok=True)

    def _state(self, trial: Trial, stage: TrialStage) -> Path:
        return self.trial(trial) / f"state-{stage}.json"

    def _lost(self, trial: Trial, stage: TrialStage) -> bool:
        """Return whether a file that a stage leaves last is gone; without its run a bundle cannot be told to be its."""
        run = self.run(trial) / "summary.json"
        left = {
            "train": (run,),
            "export": (run, self.bundle(trial, "float32") / "manifest.json"),
            "quantize": (run, self.bundle(trial, "int8") / "manifest.json"),
        }
        return not all(file.exists() for file in left[stage])

    def measured(self, variant: Variant) -> Path:
        """Return the file of what a variant costs on this machine."""
        return self.path / "measured" / f"{variant.key}.json"


@dataclass(frozen=True, kw_only=True)
class GrowthPoint:
    """What a variant costs at one image size; a figure that could not be had is ``unavailable``, with the reason."""

    image_size: tuple[int, int]
    macs: Figure
    latency: Figure


@dataclass(frozen=True, kw_only=True)
class MeasuredCosts:
    """What a variant costs on this machine, measured beside all other variants.

    Attributes:
        network: ``parameters``, ``macs``, ``exponentials``, ``train_step`` (ms) and ``train_memory`` (bytes).
        precisions: of each of ``PRECISIONS``: ``file`` (bytes), ``latency_p50``, ``latency_p95`` (ms), ``peak_memory``
            (bytes of a whole fresh process) and ``energy`` (J of a call). Everything is a figure; what could not be had
            is ``unavailable`` with the reason.
        growth: cost over image sizes.
    """

    network: dict[str, Figure]
    precisions: dict[RuntimePrecision, dict[str, Figure]]
    growth: tuple[GrowthPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as data."""
        return config.to_json(self)
