"""The folder of a comparison: its plan, its trials, measured costs and the page.

Names on disk are those of version 0.1.0, which called a variant a kind and a trial a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gossamer import config
from gossamer.files import read_json, write_json
from gossamer.profiling.figure import Figure
from gossamer.variants import PRECISIONS, RuntimePrecision, Variant

BASELINE = "softmax"
"""Attention mechanism that every other mechanism of the same network is compared with."""
TrialStage = Literal["train", "export", "quantize"]
STAGES: tuple[TrialStage, ...] = ("train", "export", "quantize")
"""Stages of a trial, in their order."""
STAGE_OF_PRECISION: dict[RuntimePrecision, TrialStage] = dict(zip(PRECISIONS, STAGES, strict=True))
"""The stage that produces a network in each precision."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training: a variant with one seed."""

    variant: Variant
    seed: int

    @property
    def key(self) -> str:
        """Name of the trial's folder."""
        return f"{self.variant.key}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """End of a stage of a trial, as ``state-<stage>.json`` holds it.

    Attributes:
        stage: Stage that ended.
        failed: Reason of the failure in one line; None after a success.
        seconds: Wall-clock time of the stage.
    """

    stage: TrialStage
    failed: str | None
    seconds: float


@dataclass(frozen=True)
class CompareFolder:
    """The folder of a comparison. Every file is written completely or not at all, so that work can stop at any point.

    Below ``path`` are ``plan.json``; for each trial ``cells/<key>/`` with ``run/``, the bundles ``float32/`` and
    ``int8/``, ``state-<stage>.json`` and ``<stage>.log``; for each variant ``measured/<key>.json``; and
    ``results.csv``, ``summary.json`` and ``report.html``.
    """

    path: Path

    @property
    def plan_path(self) -> Path:
        """File of the plan."""
        return self.path / "plan.json"

    @property
    def table_path(self) -> Path:
        """File of the results, with one line for each trial and precision."""
        return self.path / "results.csv"

    @property
    def summary_path(self) -> Path:
        """File of the content of the page as data."""
        return self.path / "summary.json"

    @property
    def report_path(self) -> Path:
        """File of the page."""
        return self.path / "report.html"

    def trial_path(self, trial: Trial) -> Path:
        """Return the folder of a trial."""
        return self.path / "cells" / trial.key

    def run_path(self, trial: Trial) -> Path:
        """Return the run folder of a trial, in the form of ``gossamer train``."""
        return self.trial_path(trial) / "run"

    def bundle_path(self, trial: Trial, precision: Literal["float32", "int8"]) -> Path:
        """Return the folder of a bundle of a trial."""
        return self.trial_path(trial) / precision

    def log_path(self, trial: Trial, stage: TrialStage) -> Path:
        """Return the file with the output of a stage's process."""
        return self.trial_path(trial) / f"{stage}.log"

    def costs_path(self, variant: Variant) -> Path:
        """Return the file with the costs of a variant on this machine."""
        return self.path / "measured" / f"{variant.key}.json"

    def read_state(self, trial: Trial, stage: TrialStage) -> TrialState | None:
        """Return how a stage of a trial ended; None if it has not ended, or if its output is gone."""
        file = self._state_path(trial, stage)
        state = config.from_json(TrialState, read_json(file), str(file)) if file.exists() else None
        return None if state is not None and state.failed is None and self._is_lost(trial, stage) else state

    def write_state(self, trial: Trial, state: TrialState) -> None:
        """Record how a stage of a trial ended."""
        write_json(self._state_path(trial, state.stage), config.to_json(state))

    def remove_state(self, trial: Trial, stage: TrialStage) -> None:
        """Remove the record of a stage's end, before the stage is repeated."""
        self._state_path(trial, stage).unlink(missing_ok=True)

    def _state_path(self, trial: Trial, stage: TrialStage) -> Path:
        return self.trial_path(trial) / f"state-{stage}.json"

    def _is_lost(self, trial: Trial, stage: TrialStage) -> bool:
        """Return whether the last file of a stage is gone; without its run, the origin of a bundle is unknown."""
        run = self.run_path(trial) / "summary.json"
        outputs = {
            "train": (run,),
            "export": (run, self.bundle_path(trial, "float32") / "manifest.json"),
            "quantize": (run, self.bundle_path(trial, "int8") / "manifest.json"),
        }
        return not all(file.exists() for file in outputs[stage])


@dataclass(frozen=True, kw_only=True)
class CostAtSize:
    """Cost of a variant at one image size. A figure without a value is ``unavailable``, with the reason."""

    image_size: tuple[int, int]
    macs: Figure
    latency: Figure


@dataclass(frozen=True, kw_only=True)
class VariantCosts:
    """Costs of a variant on this machine, measured in turns with the other variants.

    A figure without a value is ``unavailable``, with the reason.

    Attributes:
        network: ``parameters``, ``macs``, ``exponentials``, ``train_step`` (ms) and ``train_memory`` (bytes).
        precisions: Figures of each measured precision: ``file`` (bytes), ``latency_p50``, ``latency_p95`` (ms),
            ``peak_memory`` (bytes of a whole fresh process) and ``energy`` (J per call).
        growth: Cost at several image sizes.
    """

    network: dict[str, Figure]
    precisions: dict[RuntimePrecision, dict[str, Figure]]
    growth: tuple[CostAtSize, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the costs as values that JSON can hold."""
        return config.to_json(self)
