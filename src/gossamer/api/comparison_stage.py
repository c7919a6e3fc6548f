"""One stage of a comparison, as a process: trains, exports, quantizes or measures, and writes how it ended.

``python -m gossamer.api.comparison_stage FOLDER STAGE SUBJECT OUTCOME``: SUBJECT is the key of a trial, or for
``measure`` the number of a group.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from gossamer.api.export import export
from gossamer.api.progress import LineProgress
from gossamer.api.quantize import LimitNotMetError, quantize
from gossamer.api.train import TrainingInterrupted, train
from gossamer.comparison.compare_plan import ComparePlan, read_plan
from gossamer.comparison.folder import CompareFolder, Trial
from gossamer.comparison.measure_variants import measure_group
from gossamer.comparison.outcome import Outcome, write_outcome
from gossamer.errors import ErrorCode, GossamerError, is_out_of_memory
from gossamer.training.run_folder import RunFolder


def train_trial(folder: CompareFolder, plan: ComparePlan, trial: Trial) -> None:
    """Train a trial; a stopped run is resumed."""
    run = RunFolder(folder.run_path(trial))
    shared = {"threads": plan.request.threads, "progress": LineProgress()}
    if run.config.is_file():
        train(resume=run.path, **shared)
        return
    train(
        Path(plan.data.source),
        out=run.path,
        task=plan.data.task,
        model=trial.variant.model,
        attention=trial.variant.attention,
        seed=trial.seed,
        epochs=plan.training.epochs,
        batch_size=plan.training.batch_size,
        image_size=plan.training.image_size,
        precision=plan.training.precision,
        **shared,
    )


def export_trial(folder: CompareFolder, plan: ComparePlan, trial: Trial) -> None:
    """Export a trial as a bundle in float32."""
    export(
        folder.run_path(trial),
        folder.bundle_path(trial, "float32"),
        data=plan.data.source,
        threads=plan.request.threads,
        progress=LineProgress(),
    )


def quantize_trial(folder: CompareFolder, plan: ComparePlan, trial: Trial) -> None:
    """Quantize a trial to a bundle in int8."""
    quantize(
        folder.run_path(trial),
        folder.bundle_path(trial, "int8"),
        max_drop=plan.request.max_drop,
        data=plan.data.source,
        threads=plan.request.threads,
        progress=LineProgress(),
    )


_TRIAL_STAGES: dict[str, Callable[[CompareFolder, ComparePlan, Trial], None]] = {
    "train": train_trial,
    "export": export_trial,
    "quantize": quantize_trial,
}


def run_stage(folder: CompareFolder, stage: str, subject: str) -> None:
    """Run a stage.

    Args:
        folder: Folder of the comparison.
        stage: ``train``, ``export``, ``quantize`` or ``measure``.
        subject: Key of a trial, or for ``measure`` the number of a group.
    """
    if stage == "measure":
        measure_group(folder, int(subject))
        return
    plan = read_plan(folder.plan_path)
    trial = next(trial for trial in plan.trials if trial.key == subject)
    _TRIAL_STAGES[stage](folder, plan, trial)


def main(arguments: list[str]) -> int:
    """Run a stage, write its outcome and return the exit status."""
    folder, stage, subject, outcome = CompareFolder(Path(arguments[0])), arguments[1], arguments[2], Path(arguments[3])
    warnings.simplefilter("ignore")
    try:
        run_stage(folder, stage, subject)
    except TrainingInterrupted as stop:
        return 128 + stop.signal_number
    except GossamerError as error:
        status = "not_met" if isinstance(error, LimitNotMetError) else "failed"
        message = f"{error.problem}; {error.remedy}"
        write_outcome(outcome, Outcome(status=status, code=error.code.label, message=message, where=error.where))
        print_log(str(error))
        return error.code.exit_status
    except Exception as error:
        code = ErrorCode.BUSY if is_out_of_memory(error) else ErrorCode.BUG
        remedy = "use a smaller batch_size or image_size" if code is ErrorCode.BUSY else "see the log of the stage"
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}; {remedy}"
        write_outcome(outcome, Outcome(status="failed", code=code.label, message=message, where=stage))
        print_log(traceback.format_exc())
        return code.exit_status
    write_outcome(outcome, Outcome(status="done"))
    return 0


def print_log(text: str) -> None:
    """Print a text to the log of the stage."""
    LineProgress().show_message(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
