"""From a data set, networks and mechanisms to the complete plan of a comparison.

The budget is turned into one number of epochs for all trials before anything is trained: the slowest variant must fit.
After that no clock decides anything, so a comparison that is interrupted or repeated gives the same table.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from gossamer.comparison.compare_plan import ComparePlan, DataSummary, RefusedVariant, TrainingSummary
from gossamer.comparison.fingerprint import hash_mechanisms
from gossamer.comparison.folder import BASELINE
from gossamer.comparison.forecast import TimedSteps, time_training_steps
from gossamer.comparison.paired_tests import name_unit, note_few_patients
from gossamer.comparison.request import CompareRequest
from gossamer.comparison.tasks import TASKS
from gossamer.config import find_entry
from gossamer.data import Dataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.predictions import groups_of
from gossamer.nn.attention import attention_config
from gossamer.nn.models import PRESETS
from gossamer.profiling.machine import describe_machine, process_memory
from gossamer.progress import SILENT, Progress
from gossamer.task import TaskName
from gossamer.training.options import TrainOptions
from gossamer.training.plan import plan_run
from gossamer.training.resolve_model import DEFAULT_MODELS, require_task
from gossamer.training.run_folder import RunConfig
from gossamer.variants import Variant

BUDGET_SHARE = 0.85
"""Share of the budget that the forecast of the slowest variant may use; the rest is for what a forecast misses."""
BUNDLE_SEED = 0
"""The one seed that is exported and measured: the costs of a network do not depend on its seed."""
_MISFITS = (ErrorCode.CONFIG, ErrorCode.UNSUPPORTED, ErrorCode.GEOMETRY, ErrorCode.LIMIT)


@dataclass(frozen=True)
class _FittedVariants:
    """Variants that fit the data, with their runs, and those that do not."""

    runs: dict[Variant, RunConfig]
    refused: tuple[RefusedVariant, ...]


def make_plan(request: CompareRequest, *, command: str = "", progress: Progress = SILENT) -> ComparePlan:
    """Return what is trained and for how long. A few steps of each variant are timed.

    Args:
        request: Options of the comparison.
        command: Command line that starts or resumes the comparison.
        progress: Receiver of messages.

    Raises:
        GossamerError: The data cannot be trained with, a name does not exist, no variant fits, or the budget is too
            small.
    """
    dataset = open_dataset(Path(request.data), seed=0)
    fitted = _fit_to_one_size(dataset, _list_variants(dataset.task, request), request)
    timed, refused = _time_variants(fitted, dataset, progress)
    runs = {variant: run for variant, run in fitted.runs.items() if variant in timed}
    first = next(iter(runs.values()))
    epochs = request.epochs or _choose_epochs(request.budget_minutes, timed, first.recipe.epochs)
    return ComparePlan(
        request=request,
        data=DataSummary(
            source=request.data,
            task=dataset.task,
            classes=dataset.classes,
            fingerprint=dataset.fingerprint(),
        ),
        training=TrainingSummary(
            seeds=tuple(range(request.seeds)),
            bundle_seeds=(BUNDLE_SEED,),
            epochs=epochs,
            image_size=first.model.image_size,
            batch_size=first.recipe.batch_size,
            precision=first.recipe.precision,
        ),
        variants=tuple(runs),
        refused=(*fitted.refused, *refused),
        forecasts={variant.key: steps.forecast(epochs) for variant, steps in timed.items()},
        notes=(*_missing_baseline_notes(request, runs), *_few_patients_notes(dataset)),
        machine=describe_machine(),
        command=command,
        mechanism_hashes=hash_mechanisms(request),
    )


def _list_variants(task: TaskName, request: CompareRequest) -> list[Variant]:
    """Return every network with every mechanism, and a network without attention once."""
    for attention in request.attention:
        attention_config(attention)
    variants = []
    for model in request.models or (DEFAULT_MODELS[task],):
        preset = find_entry(PRESETS, model, "model")
        require_task(model, preset, task, "models")
        mechanisms = request.attention if preset.has_attention() else (None,)
        variants += [Variant(model=model, attention=attention) for attention in mechanisms]
    return variants


def _fit_to_one_size(dataset: Dataset, variants: list[Variant], request: CompareRequest) -> _FittedVariants:
    """Return the variants that fit, at one image size: the requested one, or the largest that a variant chooses."""
    fitted = _fit_variants(dataset, variants, request)
    runs = list(fitted.runs.values())
    if not runs:
        problem = f"no network with its mechanisms fits: {fitted.refused[0].reason}"
        raise GossamerError(ErrorCode.CONFIG, "models", problem, "name other models or mechanisms")
    if len({run.model.image_size for run in runs}) == 1:
        return fitted
    multiple = math.lcm(*(run.model.input_requirements.multiple for run in runs))
    largest = (max(run.model.image_size[axis] for run in runs) for axis in (0, 1))
    rows, columns = (-(-side // multiple) * multiple for side in largest)
    return _fit_variants(dataset, variants, dataclasses.replace(request, image_size=(rows, columns)))


def _fit_variants(dataset: Dataset, variants: list[Variant], request: CompareRequest) -> _FittedVariants:
    runs: dict[Variant, RunConfig] = {}
    refused: list[RefusedVariant] = []
    for variant in variants:
        options = TrainOptions(
            model=variant.model,
            attention=variant.attention,
            image_size=request.image_size,
            epochs=request.epochs,
            batch_size=request.batch_size,
        )
        try:
            runs[variant] = plan_run(dataset, options)[0]
        except GossamerError as error:
            if error.code not in _MISFITS:
                raise
            refused.append(_refuse_variant(variant, error))
    return _FittedVariants(runs, tuple(refused))


def _time_variants(
    fitted: _FittedVariants, dataset: Dataset, progress: Progress
) -> tuple[dict[Variant, TimedSteps], list[RefusedVariant]]:
    timed: dict[Variant, TimedSteps] = {}
    refused: list[RefusedVariant] = []
    memory = process_memory()  # this process has loaded what training loads
    base_bytes = None if memory is None else memory.resident_bytes
    for number, (variant, run) in enumerate(fitted.runs.items(), start=1):
        progress.show_message(f"timing a few steps of {variant.name} ({number}/{len(fitted.runs)})")
        try:
            timed[variant] = time_training_steps(run, dataset, base_bytes=base_bytes)
        except GossamerError as error:
            refused.append(_refuse_variant(variant, error))
    if not timed:
        raise GossamerError(ErrorCode.CONFIG, "models", refused[0].reason, "name other models or mechanisms")
    return timed, refused


def _choose_epochs(budget_minutes: float | None, timed: dict[Variant, TimedSteps], most: int) -> int:
    """Return the number of epochs of all trials: the recipe's, or fewer if the slowest variant exceeds the budget.

    Raises:
        GossamerError: ``E-LIMIT`` if not even one epoch fits.
    """
    if budget_minutes is None:
        return most
    slowest = max(timed, key=lambda variant: timed[variant].epoch_s)
    epoch_s = timed[slowest].epoch_s
    epochs = math.floor(BUDGET_SHARE * 60 * budget_minutes / epoch_s)
    if epochs < 1:
        problem = f"an epoch of {slowest.name} takes about {epoch_s / 60:.1f} minutes, the budget is {budget_minutes:g}"
        minutes = math.ceil(epoch_s / 60 / BUDGET_SHARE)
        remedy = f"use {minutes} or more, a smaller image_size, or smaller models"
        raise GossamerError(ErrorCode.LIMIT, "budget_minutes", problem, remedy)
    return min(most, epochs)


def _refuse_variant(variant: Variant, error: GossamerError) -> RefusedVariant:
    reason = f"{error.where}: {error.problem}"
    return RefusedVariant(model=variant.model, attention=variant.attention, reason=reason)


def _missing_baseline_notes(request: CompareRequest, runs: dict[Variant, RunConfig]) -> list[str]:
    """Return a note on networks whose mechanisms have no baseline."""
    with_baseline = {each.model for each in runs if each.attention is not None and _is_baseline(each.attention)}
    without = sorted({each.model for each in runs if each.attention is not None} - with_baseline)
    if not without:
        return []
    reason = "was not requested" if BASELINE not in request.attention else "does not fit"
    return [f"{BASELINE} {reason} with {', '.join(without)}: there is no baseline to compare with"]


def _is_baseline(attention: str) -> bool:
    return attention_config(attention) == attention_config(BASELINE)


def _few_patients_notes(dataset: Dataset) -> list[str]:
    """Return a note on intervals from few patients in the evaluated split: the test split if there is one."""
    split = "test" if any(sample.split == "test" for sample in dataset.samples) else "val"
    groups = set(groups_of([sample for sample in dataset.samples if sample.split == split]))
    return note_few_patients(len(groups), name_unit(groups, TASKS[dataset.task].SAMPLE_NAME), split)
