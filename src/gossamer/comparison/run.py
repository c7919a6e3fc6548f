"""The trials of a comparison, stage by stage, each in a process of its own; what is done is not done again."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gossamer.comparison.folder import STAGES, CompareFolder, Trial, TrialStage, TrialState
from gossamer.comparison.measure_variants import list_open_groups
from gossamer.comparison.plan import PlannedStage, list_stages
from gossamer.comparison.plan_file import ComparePlan
from gossamer.comparison.trial_results import is_damaged
from gossamer.comparison.worker import StageProcesses, Stopped
from gossamer.training.run_folder import RunFolder

NO_RUNG = "no rung meets the limit"
"""How the state of a quantization begins that failed by its result, not by a fault."""


@dataclass
class ComparisonRunner:
    """Does what is not done yet of a comparison.

    Attributes:
        folder: of the comparison, with its plan.
        plan: what is done.
        data: where the data lie now.
        children: runs the stages.
        on_stage: called with a line on each stage.
        on_trial: called when the table has changed.
        retry: whether stages that failed are tried again.
    """

    folder: CompareFolder
    plan: ComparePlan
    data: str
    children: StageProcesses
    on_stage: Callable[[str], None]
    on_trial: Callable[[], None]
    retry: bool = False

    def run(self) -> None:
        """Do every stage that is not done.

        Raises:
            Stopped: a signal asked to stop; the stage that ran has ended well and is taken up again.
        """
        stages = list_stages(self.plan)
        clock = _Clock(stages)
        for number, stage in enumerate(stages):
            if not self._is_open(stage):
                clock.skip(number)
                continue
            variant = "" if stage.variant is None else f" {stage.variant.name}, seed {stage.seed}"
            title, began = f"[{number + 1}/{len(stages)}] {stage.what}{variant}", time.monotonic()
            self.on_stage(f"{title}; about {format_duration(clock.left())} left")
            failed = self._do(stage)
            clock.done(number, time.monotonic() - began)
            end = f"failed: {failed}" if failed else "done"
            self.on_stage(f"{title}: {end}, {format_duration(time.monotonic() - began)}")
            self.on_trial()

    def _is_open(self, stage: PlannedStage) -> bool:
        if stage.what == "measure" or stage.trial is None:
            return bool(list_open_groups(self.folder, self.plan))
        known = self.folder.read_state(stage.trial, stage.what)
        if known is None or not self.retry:
            return known is None
        return known.failed is not None or is_damaged(self.folder, stage.trial, self.plan.task, stage.what)

    def _do(self, stage: PlannedStage) -> str | None:
        """Do a stage, keep how it ended, and return the reason of a failure."""
        if stage.what == "measure" or stage.trial is None:
            return self._measure()
        what, trial = stage.what, stage.trial
        self.folder.trial(trial).mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        had_failed = self._forget(what, trial)
        failed = self._missing(what, trial) or (self._train(trial) if what == "train" else self._bundle(what, trial))
        if had_failed and failed is None:
            self._forget_costs(trial)
        self.folder.write_state(trial, TrialState(stage=what, failed=failed, seconds=time.monotonic() - began))
        return failed

    def _forget(self, what: TrialStage, trial: Trial) -> bool:
        """Remove what an earlier end of a stage has led to, where that is gone; return whether it had failed."""
        known = self.folder.read_state(trial, what)
        had_failed = known is not None and known.failed is not None
        if what == "train":
            if known is not None and not had_failed:  # it is open because it is harmed: nothing of it is gone on with
                shutil.rmtree(self.folder.run(trial), ignore_errors=True)
            for later in ("export", "quantize"):
                self.folder.forget_state(trial, later)
        self.folder.forget_state(trial, what)
        if not had_failed:
            self._forget_costs(trial)
        return had_failed

    def _forget_costs(self, trial: Trial) -> None:
        """Have a variant measured again whose measured trial is made again."""
        if trial.seed == self.plan.seeds[0]:
            self.folder.measured(trial.variant).unlink(missing_ok=True)

    def _missing(self, what: TrialStage, trial: Trial) -> str | None:
        """Return why a stage has nothing to begin with."""
        for stage in STAGES[: STAGES.index(what)]:
            state = self.folder.read_state(trial, stage)
            if state is not None and state.failed:
                return f"{stage} failed"
        return None

    def _train(self, trial: Trial) -> str | None:
        """Train a trial, from its last checkpoint where there is one; return the reason of a failure."""
        run = RunFolder(self.folder.run(trial))
        resumed = run.config.is_file() and self._cli(trial, "train", ["--resume", str(run.path)]) is None
        if resumed and run.summary.is_file():
            return None
        # Nothing was kept, or it cannot be gone on with: seeds and epochs are the plan's, so the end is the same.
        shutil.rmtree(run.path, ignore_errors=True)
        options, variant = self.plan.options, trial.variant
        size = "x".join(str(side) for side in options["image_size"])
        arguments = [
            self.data, "--out", str(run.path), "--task", self.plan.task, "--model", variant.model,
            *([] if variant.attention is None else ["--attention", variant.attention]),
            "--seed", str(trial.seed), "--epochs", str(self.plan.epochs), "--batch-size", str(options["batch_size"]),
            "--image-size", size, "--precision", options["precision"],
        ]  # fmt: skip
        return self._cli(trial, "train", arguments)

    def _bundle(self, what: TrialStage, trial: Trial) -> str | None:
        """Write a bundle of a trial anew; return the reason of a failure."""
        out = self.folder.bundle(trial, "float32" if what == "export" else "int8")
        _remove_bundle(out)  # what a kill left half done, or an earlier end without its state
        arguments = [str(self.folder.run(trial)), "--out", str(out), "--data", self.data]
        if what == "quantize":
            arguments += ["--max-drop", str(self.plan.options["max_drop"])]
        try:
            return self._cli(trial, what, arguments)
        except Stopped:
            _remove_bundle(
                out
            )  # a bundle is made anew, and its verb dies of the signal with its temporary folder in place
            raise

    def _cli(self, trial: Trial, what: TrialStage, arguments: list[str]) -> str | None:
        """Run a verb of the command line; return its last line of failure."""
        log = self.folder.log(trial, what)
        status = self.children.run("gossamer", [what, *arguments, "--threads", str(self.plan.threads)], log)
        return None if status == 0 else reason_of(log.read_text(errors="replace"), status)

    def _measure(self) -> str | None:
        """Measure all variants that have weights, in groups; return the reason of a failure."""
        failed = []
        for number in list_open_groups(self.folder, self.plan):
            log = self.folder.path / f"measure-{number}.log"
            module = "gossamer.comparison.measure_variants"
            status = self.children.run(module, [str(self.folder.path), str(number)], log)
            if status != 0:
                failed.append(reason_of(log.read_text(errors="replace"), status))
        return failed[0] if failed else None


def _remove_bundle(out: Path) -> None:
    """Remove a bundle, its report, and temporary folders of both."""
    for left in (out, *out.parent.glob(f".{out.name}.*.part"), *out.parent.glob(f"{out.name}.report")):
        shutil.rmtree(left, ignore_errors=True)


def reason_of(log: str, status: int) -> str:
    """Return why a stage failed, in one line: its own word for it, or how its process ended.

    Args:
        log: what it wrote.
        status: its exit status; below 0 where a signal ended it.
    """
    own = [line for line in log.splitlines() if line.startswith("gossamer:")]
    if own and "no rung keeps" in own[-1]:
        return f"{NO_RUNG}: {re.sub(r'^.*?(?=no rung keeps)', '', own[-1])}"
    if own:
        return own[-1].removeprefix("gossamer:").strip()
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "it said nothing")
    if status < 0:
        hint = ": the system may have been short of memory" if status == -9 else ""
        return f"ended by signal {-status}{hint}"
    return f"exit status {status}: {last[:200]}"


class _Clock:
    """What is left, by the forecast of each stage, corrected by what stages of its sort took."""

    def __init__(self, stages: list[PlannedStage]) -> None:
        self._stages = stages
        self._open = set(range(len(stages)))
        self._took: dict[str, tuple[float, float]] = {}

    def skip(self, number: int) -> None:
        self._open.discard(number)

    def done(self, number: int, seconds: float) -> None:
        self._open.discard(number)
        stage = self._stages[number]
        took, thought = self._took.get(stage.what, (0.0, 0.0))
        self._took[stage.what] = (took + seconds, thought + stage.seconds)

    def left(self) -> float:
        seconds = 0.0
        for number in self._open:
            stage = self._stages[number]
            took, thought = self._took.get(stage.what, (1.0, 1.0))
            seconds += stage.seconds * took / thought
        return seconds


def format_duration(seconds: float) -> str:
    """Return a time as a reader would say it."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
