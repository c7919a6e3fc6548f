"""From a data set, networks and mechanisms to a comparison with nothing left open.

The budget is turned into one number of epochs for all trials before anything is trained: the slowest variant must fit.
From then on no clock decides anything, so that a comparison that was stopped, or is made again, gives the same table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gossamer import config
from gossamer.comparison.fingerprint import count_evaluated_patients, hash_contents
from gossamer.comparison.folder import BASELINE, Trial, TrialStage
from gossamer.comparison.forecast import (
    EXPORT_S,
    MEASURE_S,
    QUANTIZE_S,
    TimedSteps,
    TrainingForecast,
    time_training_steps,
)
from gossamer.comparison.paired_tests import note_few_patients
from gossamer.comparison.plan_file import ComparePlan, RefusedVariant
from gossamer.comparison.request import CompareRequest
from gossamer.config import find_entry
from gossamer.data import ClassificationDataset, SegmentationDataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import attention_config
from gossamer.nn.models import PRESETS, list_models
from gossamer.profiling.machine import describe_machine, process_memory
from gossamer.task import TaskName
from gossamer.training.options import TrainOptions
from gossamer.training.plan import plan_run
from gossamer.training.resolve_model import DEFAULT_MODELS
from gossamer.training.run_folder import RunConfig
from gossamer.variants import Variant

BUDGET_SHARE = 0.85
"""Of the budget that the forecast of the slowest variant may take; the rest is for what a forecast does not see."""
BUNDLE_SEED = 0
"""Bundles are made and measured of this seed alone: what a network costs does not depend on its seed."""
_KEPT = ("asked", "fingerprint", "image_size", "batch_size", "precision", "max_drop", "notes", "forecast")
_MISFITS = (ErrorCode.CONFIG, ErrorCode.UNSUPPORTED, ErrorCode.GEOMETRY, ErrorCode.LIMIT)


@dataclass(frozen=True)
class _Fitting:
    """The variants that fit the data, with their runs, and those that do not."""

    runs: dict[Variant, RunConfig]
    refused: tuple[RefusedVariant, ...]


def make_plan(
    asked: CompareRequest, *, command: str = "", on_stage: Callable[[str], None] = lambda text: None
) -> tuple[ComparePlan, dict[Variant, TrainingForecast]]:
    """Return what is trained and for how long, and what each variant takes. Times a few steps of each variant.

    Args:
        asked: what the user asks for.
        command: that makes the comparison again.
        on_stage: called with what is being done.

    Raises:
        GossamerError: the data cannot be trained with, a name does not exist, no variant fits, or the budget is too
            small.
    """
    dataset = open_dataset(Path(asked.data), seed=0)
    task: TaskName = "segment" if isinstance(dataset, SegmentationDataset) else "classify"
    fitting = _fit_to_one_size(dataset, _list_variants(task, asked), asked)
    timed, refused = _time_variants(fitting, dataset, on_stage)
    runs = {variant: run for variant, run in fitting.runs.items() if variant in timed}
    first = next(iter(runs.values()))
    epochs = asked.epochs or _choose_epochs(asked.budget_minutes, timed, first.recipe.epochs)
    forecasts = {variant: found.forecast(epochs) for variant, found in timed.items()}
    plan = ComparePlan(
        data=asked.data,
        task=task,
        classes=dataset.classes,
        variants=tuple(runs),
        refused=(*fitting.refused, *refused),
        seeds=tuple(range(asked.seeds)),
        epochs=epochs,
        budget_minutes=asked.budget_minutes,
        limits=asked.limits,
        threads=asked.threads,
        machine=describe_machine(),
        command=command,
        options={
            "asked": config.to_json(asked),
            "fingerprint": dataset.fingerprint(),
            "image_size": list(first.model.image_size),
            "batch_size": first.recipe.batch_size,
            "precision": first.recipe.precision,
            "precisions": list(asked.precisions),
            "max_drop": asked.max_drop,
            "bundle_seeds": [BUNDLE_SEED],
            "notes": [*_missing_baseline_notes(asked, runs), *note_few_patients(*count_evaluated_patients(dataset))],
            "forecast": {variant.key: config.to_json(found) for variant, found in forecasts.items()},
        },
    )
    return plan, forecasts


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a comparison.

    Attributes:
        what: is done.
        variant: with which; None for measuring, which is about all of them.
        seed: of the trial.
        seconds: that it takes, about.
    """

    what: TrialStage | Literal["measure"]
    variant: Variant | None
    seed: int
    seconds: float

    @property
    def trial(self) -> Trial | None:
        """The trial that it belongs to."""
        return None if self.variant is None else Trial(variant=self.variant, seed=self.seed)


def list_stages(plan: ComparePlan) -> list[PlannedStage]:
    """Return every stage in its order: the first seed of all variants, what they cost, then the other seeds.

    A comparison that is cut short then has a table.
    """
    found = plan.options["forecast"]
    stages: list[PlannedStage] = []
    for number, seed in enumerate(plan.seeds):
        for variant in plan.variants:
            stages.append(PlannedStage("train", variant, seed, found[variant.key]["train_s"]))
            wanted = plan.stages(Trial(variant=variant, seed=seed))
            stages += [PlannedStage("export", variant, seed, EXPORT_S)] if "export" in wanted else []
            stages += [PlannedStage("quantize", variant, seed, QUANTIZE_S)] if "quantize" in wanted else []
        if number == 0:
            stages.append(PlannedStage("measure", None, seed, MEASURE_S * len(plan.variants)))
    return stages


def start_plan(plan: ComparePlan) -> ComparePlan:
    """Return a plan that knows the pixels of its data, all of which are read once."""
    contents = hash_contents(open_dataset(Path(plan.data), seed=0))
    return dataclasses.replace(plan, options={**plan.options, "contents": contents})


def resume_plan(plan: ComparePlan, asked: CompareRequest, command: str, where: Path) -> ComparePlan:
    """Return the plan with what may change from call to call: limits, the place of the data, and the command.

    Args:
        plan: as it was begun.
        asked: now.
        command: that asks for it.
        where: the plan lies.

    Raises:
        GossamerError: ``E-CONFIG`` for another option than that, ``E-INTEGRITY`` for other data, ``E-FORMAT`` for a
            plan that lacks what it was begun with.
    """
    lacking = [key for key in _KEPT if key not in plan.options]
    if lacking:
        raise GossamerError(ErrorCode.FORMAT, where, f"lacks options.{lacking[0]}", "give another --out")
    asked.require_same(config.from_json(CompareRequest, plan.options["asked"], str(where)), where.parent)
    require_same_data(plan, asked.data)
    options = {**plan.options, "asked": config.to_json(asked)}
    return dataclasses.replace(plan, data=asked.data, limits=asked.limits, command=command, options=options)


def require_same_data(plan: ComparePlan, data: str) -> None:
    """Raise unless the data are those of the plan, to the last pixel where the plan knows them.

    Raises:
        GossamerError: ``E-INTEGRITY``.
    """
    dataset = open_dataset(Path(data), seed=0)
    remedy = "restore the data, or give another --out"
    if dataset.fingerprint() != plan.options["fingerprint"]:
        problem = "samples, labels or splits are not those that the comparison was begun with"
        raise GossamerError(ErrorCode.INTEGRITY, data, problem, remedy)
    if "contents" in plan.options and hash_contents(dataset) != plan.options["contents"]:
        problem = "pixels of images or masks are not those that the comparison was begun with"
        raise GossamerError(ErrorCode.INTEGRITY, data, problem, remedy)


def _list_variants(task: TaskName, asked: CompareRequest) -> list[Variant]:
    """Return every network with every mechanism; a network without attention once."""
    for attention in asked.attention:
        attention_config(attention)
    variants = []
    for model in asked.models or (DEFAULT_MODELS[task],):
        preset = find_entry(PRESETS, model, "model")
        if preset.task != task:
            problem = f"{model} is a network to {preset.task}, the data are labelled to {task}"
            fitting = ", ".join(name for name in list_models(task=task) if name.endswith(("_small", "_tiny")))
            raise GossamerError(ErrorCode.CONFIG, "--models", problem, f"use {fitting}, ...")
        mechanisms = asked.attention if preset.has_attention() else (None,)
        variants += [Variant(model=model, attention=attention) for attention in mechanisms]
    return variants


def _fit_to_one_size(
    dataset: ClassificationDataset | SegmentationDataset, variants: list[Variant], asked: CompareRequest
) -> _Fitting:
    """Return the variants that fit, at one image size: that of the request, or the largest that a variant chooses."""
    fitting = _fit_variants(dataset, variants, asked)
    runs = list(fitting.runs.values())
    if not runs:
        raise GossamerError(
            ErrorCode.CONFIG, "--models", "no network with its mechanisms fits: " + fitting.refused[0].reason,
            "name other models or mechanisms",
        )  # fmt: skip
    if len({run.model.image_size for run in runs}) == 1:
        return fitting
    multiple = math.lcm(*(run.model.input_requirements.multiple for run in runs))
    largest = (max(run.model.image_size[axis] for run in runs) for axis in (0, 1))
    rows, columns = (-(-side // multiple) * multiple for side in largest)
    return _fit_variants(dataset, variants, dataclasses.replace(asked, image_size=(rows, columns)))


def _fit_variants(
    dataset: ClassificationDataset | SegmentationDataset, variants: list[Variant], asked: CompareRequest
) -> _Fitting:
    runs: dict[Variant, RunConfig] = {}
    refused: list[RefusedVariant] = []
    for variant in variants:
        wishes = TrainOptions(
            model=variant.model,
            attention=variant.attention,
            image_size=asked.image_size,
            epochs=asked.epochs,
            batch_size=asked.batch_size,
        )
        try:
            runs[variant] = plan_run(dataset, wishes)[0]
        except GossamerError as error:
            if error.code not in _MISFITS:
                raise
            refused.append(_refuse_variant(variant, error))
    return _Fitting(runs, tuple(refused))


def _time_variants(
    fitting: _Fitting, dataset: ClassificationDataset | SegmentationDataset, on_stage: Callable[[str], None]
) -> tuple[dict[Variant, TimedSteps], list[RefusedVariant]]:
    timed: dict[Variant, TimedSteps] = {}
    refused: list[RefusedVariant] = []
    now = process_memory()  # this process has loaded what training loads
    for number, (variant, run) in enumerate(fitting.runs.items(), start=1):
        on_stage(f"timing a few steps of {variant.name} ({number}/{len(fitting.runs)})")
        try:
            timed[variant] = time_training_steps(run, dataset, base_bytes=None if now is None else now.resident_bytes)
        except GossamerError as error:
            refused.append(_refuse_variant(variant, error))
    if not timed:
        raise GossamerError(ErrorCode.CONFIG, "--models", refused[0].reason, "name other models or mechanisms")
    return timed, refused


def _choose_epochs(budget_minutes: float | None, timed: dict[Variant, TimedSteps], most: int) -> int:
    """Return the epochs of all trials: the recipe's, or fewer where the slowest variant would not fit into the budget.

    Raises:
        GossamerError: ``E-LIMIT``, where not one epoch fits.
    """
    if budget_minutes is None:
        return most
    slowest = max(timed, key=lambda variant: timed[variant].epoch_s)
    epoch_s = timed[slowest].epoch_s
    epochs = math.floor(BUDGET_SHARE * 60 * budget_minutes / epoch_s)
    if epochs < 1:
        problem = f"an epoch of {slowest.name} takes about {epoch_s / 60:.1f} minutes, {budget_minutes:g} are given"
        remedy = f"give {math.ceil(epoch_s / 60 / BUDGET_SHARE)} or more, a smaller --image-size, or lighter models"
        raise GossamerError(ErrorCode.LIMIT, "--budget-minutes", problem, remedy)
    return min(most, epochs)


def _refuse_variant(variant: Variant, error: GossamerError) -> RefusedVariant:
    return RefusedVariant(model=variant.model, attention=variant.attention, reason=f"{error.where}: {error.problem}")


def _missing_baseline_notes(asked: CompareRequest, runs: dict[Variant, Any]) -> list[str]:
    """Return what a reader should know of the choice of variants."""
    baselines = {variant.model for variant in runs if variant.attention is not None and _is_baseline(variant.attention)}
    alone = sorted({variant.model for variant in runs if variant.attention is not None} - baselines)
    if not alone:
        return []
    how = "was not asked for" if BASELINE not in asked.attention else "does not fit"
    return [f"{BASELINE} {how} with {', '.join(alone)}: there is no baseline to compare with"]


def _is_baseline(attention: str) -> bool:
    return attention_config(attention) == attention_config(BASELINE)
