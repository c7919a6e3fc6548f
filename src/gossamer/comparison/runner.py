"""Runs the stages of a comparison, each in a process of its own. A finished stage is not repeated."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gossamer.comparison.compare_plan import ComparePlan
from gossamer.comparison.folder import STAGES, CompareFolder, Trial, TrialStage, TrialState
from gossamer.comparison.measure_variants import list_open_groups
from gossamer.comparison.outcome import read_failure
from gossamer.comparison.stages import PlannedStage, list_stages
from gossamer.comparison.tasks import TASKS
from gossamer.comparison.trial_results import is_damaged
from gossamer.comparison.worker import ComparisonInterrupted, StageProcesses
from gossamer.progress import SILENT, Progress
from gossamer.training.run_folder import RunFolder


@dataclass
class ComparisonRunner:
    """Does the open stages of a comparison.

    Attributes:
        folder: Folder of the comparison, with its plan.
        plan: Plan of the comparison.
        processes: Runs a stage in a process.
        stage_module: Name of the module that is a stage's process. Its arguments are the folder, the name of the
            stage, the key of the trial (or the number of a group to measure), and the file for the outcome.
        on_change: Function that is called after each stage.
        progress: Receiver of messages.
        retry: Whether failed and damaged stages are repeated (default: False).
    """

    folder: CompareFolder
    plan: ComparePlan
    processes: StageProcesses
    stage_module: str
    on_change: Callable[[], object]
    progress: Progress = SILENT
    retry: bool = False

    def run(self) -> None:
        """Do every open stage.

        Raises:
            ComparisonInterrupted: A signal stopped the comparison; the next call resumes the interrupted stage.
        """
        stages = list_stages(self.plan)
        clock = _Clock(stages)
        for number, stage in enumerate(stages):
            if not self._is_open(stage):
                clock.skip(number)
                continue
            title, started = f"[{number + 1}/{len(stages)}] {stage.title}", time.monotonic()
            self.progress.show_message(f"{title}; about {format_duration(clock.remaining())} left")
            failed = self._run_stage(stage)
            clock.record(number, time.monotonic() - started)
            end = f"failed: {failed}" if failed else "done"
            self.progress.show_message(f"{title}: {end}, {format_duration(time.monotonic() - started)}")
            self.on_change()

    def _is_open(self, stage: PlannedStage) -> bool:
        if stage.name == "measure" or stage.trial is None:
            return bool(list_open_groups(self.folder, self.plan))
        known = self.folder.read_state(stage.trial, stage.name)
        if known is None or not self.retry:
            return known is None
        task = TASKS[self.plan.data.task]
        return known.failed is not None or is_damaged(self.folder, stage.trial, task, stage.name)

    def _run_stage(self, stage: PlannedStage) -> str | None:
        """Do a stage, record how it ended, and return the reason of a failure."""
        if stage.name == "measure" or stage.trial is None:
            return self._measure_variants()
        name, trial = stage.name, stage.trial
        self.folder.trial_path(trial).mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        had_failed = self._discard_results(name, trial)
        failed = self._find_failed_input(name, trial)
        if failed is None:
            failed = self._train(trial) if name == "train" else self._write_bundle(name, trial)
        if had_failed and failed is None:
            self._discard_costs(trial)
        self.folder.write_state(trial, TrialState(stage=name, failed=failed, seconds=time.monotonic() - started))
        return failed

    def _discard_results(self, stage: TrialStage, trial: Trial) -> bool:
        """Remove the results of an earlier end of a stage, and return whether it had failed."""
        known = self.folder.read_state(trial, stage)
        had_failed = known is not None and known.failed is not None
        if stage == "train":
            if known is not None and not had_failed:  # the run is damaged, so it cannot be resumed
                shutil.rmtree(self.folder.run_path(trial), ignore_errors=True)
            for later in ("export", "quantize"):
                self.folder.remove_state(trial, later)
        self.folder.remove_state(trial, stage)
        if not had_failed:
            self._discard_costs(trial)
        return had_failed

    def _discard_costs(self, trial: Trial) -> None:
        """Remove the costs of a variant whose measured trial is repeated, so that it is measured again."""
        if trial.seed == self.plan.training.seeds[0]:
            self.folder.costs_path(trial.variant).unlink(missing_ok=True)

    def _find_failed_input(self, stage: TrialStage, trial: Trial) -> str | None:
        """Return which earlier stage failed, so that this one has no input."""
        for earlier in STAGES[: STAGES.index(stage)]:
            state = self.folder.read_state(trial, earlier)
            if state is not None and state.failed:
                return f"{earlier} failed"
        return None

    def _train(self, trial: Trial) -> str | None:
        """Train a trial, from its last checkpoint if there is one; return the reason of a failure."""
        run = RunFolder(self.folder.run_path(trial))
        if run.config.is_file() and self._run_process(trial, "train") is None and run.summary.is_file():
            return None
        # There is no checkpoint, or it cannot be used: seed and epochs are the plan's, so the result is the same.
        shutil.rmtree(run.path, ignore_errors=True)
        return self._run_process(trial, "train")

    def _write_bundle(self, stage: TrialStage, trial: Trial) -> str | None:
        """Write a bundle of a trial; return the reason of a failure."""
        out = self.folder.bundle_path(trial, "float32" if stage == "export" else "int8")
        _remove_bundle(out)  # left incomplete by a kill, or complete without a record
        try:
            return self._run_process(trial, stage)
        except ComparisonInterrupted:
            _remove_bundle(out)  # the signal ended the process with its temporary folder in place
            raise

    def _run_process(self, trial: Trial, stage: TrialStage) -> str | None:
        """Run the process of a stage; return the reason of a failure."""
        outcome = self.folder.trial_path(trial) / "outcome.json"
        return self._run_module(stage, trial.key, outcome, self.folder.log_path(trial, stage))

    def _measure_variants(self) -> str | None:
        """Measure all trained variants, in groups; return the reason of the first failure."""
        failures = []
        for number in list_open_groups(self.folder, self.plan):
            outcome, log = (self.folder.path / f"measure-{number}{end}" for end in (".outcome.json", ".log"))
            failures.append(self._run_module("measure", str(number), outcome, log))
        return next((failed for failed in failures if failed is not None), None)

    def _run_module(self, stage: str, subject: str, outcome: Path, log: Path) -> str | None:
        outcome.unlink(missing_ok=True)
        arguments = [str(self.folder.path), stage, subject, str(outcome)]
        status = self.processes.run(self.stage_module, arguments, log)
        failed = read_failure(outcome, log, status)
        outcome.unlink(missing_ok=True)
        return failed


def _remove_bundle(out: Path) -> None:
    """Remove a bundle, its report, and the temporary folders of both."""
    for path in (out, *out.parent.glob(f".{out.name}.*.part"), *out.parent.glob(f"{out.name}.report")):
        shutil.rmtree(path, ignore_errors=True)


class _Clock:
    """The remaining time, from the forecast of each stage, corrected by the time that similar stages took."""

    def __init__(self, stages: list[PlannedStage]) -> None:
        self._stages = stages
        self._open = set(range(len(stages)))
        self._times: dict[str, tuple[float, float]] = {}

    def skip(self, number: int) -> None:
        self._open.discard(number)

    def record(self, number: int, seconds: float) -> None:
        self._open.discard(number)
        stage = self._stages[number]
        taken, expected = self._times.get(stage.name, (0.0, 0.0))
        self._times[stage.name] = (taken + seconds, expected + stage.seconds)

    def remaining(self) -> float:
        seconds = 0.0
        for number in self._open:
            stage = self._stages[number]
            taken, expected = self._times.get(stage.name, (1.0, 1.0))
            seconds += stage.seconds * taken / expected
        return seconds


def format_duration(seconds: float) -> str:
    """Return a duration for people, in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
