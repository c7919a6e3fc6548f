"""From a data set, networks and mechanisms to a comparison with nothing left open.

The budget is turned into one number of epochs for all cells before anything is trained: the slowest kind must fit.
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
from gossamer.comparison.fingerprint import contents_of, evaluated_patients
from gossamer.comparison.folder import TWIN, Cell, Kind, Stage, key_of
from gossamer.comparison.forecast import (
    EXPORT_S,
    MEASURE_S,
    QUANTIZE_S,
    Forecast,
    Timed,
    time_run,
)
from gossamer.comparison.plan_file import ComparePlan, Refused
from gossamer.comparison.request import CompareRequest
from gossamer.comparison.statistics import interval_note
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

BUDGET_SHARE = 0.85
"""Of the budget that the forecast of the slowest kind may take; the rest is for what a forecast does not see."""
BUNDLE_SEED = 0
"""Bundles are made and measured of this seed alone: what a network costs does not depend on its seed."""
_KEPT = ("asked", "fingerprint", "image_size", "batch_size", "precision", "max_drop", "notes", "forecast")
_MISFITS = (ErrorCode.CONFIG, ErrorCode.UNSUPPORTED, ErrorCode.GEOMETRY, ErrorCode.LIMIT)


@dataclass(frozen=True)
class _Fitting:
    """The kinds that fit the data, with their runs, and those that do not."""

    runs: dict[Kind, RunConfig]
    refused: tuple[Refused, ...]


def make_plan(
    asked: CompareRequest, *, command: str = "", on_stage: Callable[[str], None] = lambda text: None
) -> tuple[ComparePlan, dict[Kind, Forecast]]:
    """Return what is trained and for how long, and what each kind takes. Times a few steps of each kind.

    Args:
        asked: what the user asks for.
        command: that makes the comparison again.
        on_stage: called with what is being done.

    Raises:
        GossamerError: the data cannot be trained with, a name does not exist, no kind fits, or the budget is too small.
    """
    dataset = open_dataset(Path(asked.data), seed=0)
    task: TaskName = "segment" if isinstance(dataset, SegmentationDataset) else "classify"
    fitting = _same_size(dataset, _wanted(task, asked), asked)
    timed, refused = _time(fitting, dataset, on_stage)
    runs = {kind: run for kind, run in fitting.runs.items() if kind in timed}
    first = next(iter(runs.values()))
    epochs = asked.epochs or _epochs(asked.budget_minutes, timed, first.recipe.epochs)
    forecasts = {kind: found.forecast(epochs) for kind, found in timed.items()}
    plan = ComparePlan(
        data=asked.data,
        task=task,
        classes=dataset.classes,
        kinds=tuple(runs),
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
            "notes": [*_notes(asked, runs), *interval_note(*evaluated_patients(dataset))],
            "forecast": {key_of(kind): config.to_json(found) for kind, found in forecasts.items()},
        },
    )
    return plan, forecasts


@dataclass(frozen=True)
class StageAhead:
    """A stage of a comparison.

    Attributes:
        what: is done.
        kind: with which; None for measuring, which is about all of them.
        seed: of the cell.
        seconds: that it takes, about.
    """

    what: Stage | Literal["measure"]
    kind: Kind | None
    seed: int
    seconds: float

    @property
    def cell(self) -> Cell | None:
        """The cell that it belongs to."""
        return None if self.kind is None else Cell(kind=self.kind, seed=self.seed)


def stages_of(plan: ComparePlan) -> list[StageAhead]:
    """Return every stage in its order: the first seed of all kinds, what they cost, then the other seeds.

    A comparison that is cut short then has a table.
    """
    found = plan.options["forecast"]
    stages: list[StageAhead] = []
    for number, seed in enumerate(plan.seeds):
        for kind in plan.kinds:
            stages.append(StageAhead("train", kind, seed, found[key_of(kind)]["train_s"]))
            wanted = plan.stages(Cell(kind=kind, seed=seed))
            stages += [StageAhead("export", kind, seed, EXPORT_S)] if "export" in wanted else []
            stages += [StageAhead("quantize", kind, seed, QUANTIZE_S)] if "quantize" in wanted else []
        if number == 0:
            stages.append(StageAhead("measure", None, seed, MEASURE_S * len(plan.kinds)))
    return stages


def begun(plan: ComparePlan) -> ComparePlan:
    """Return a plan that knows the pixels of its data, all of which are read once."""
    contents = contents_of(open_dataset(Path(plan.data), seed=0))
    return dataclasses.replace(plan, options={**plan.options, "contents": contents})


def gone_on_with(plan: ComparePlan, asked: CompareRequest, command: str, where: Path) -> ComparePlan:
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
    if "contents" in plan.options and contents_of(dataset) != plan.options["contents"]:
        problem = "pixels of images or masks are not those that the comparison was begun with"
        raise GossamerError(ErrorCode.INTEGRITY, data, problem, remedy)


def _wanted(task: TaskName, asked: CompareRequest) -> list[Kind]:
    """Return every network with every mechanism; a network without attention once."""
    for attention in asked.attention:
        attention_config(attention)
    kinds = []
    for model in asked.models or (DEFAULT_MODELS[task],):
        preset = find_entry(PRESETS, model, "model")
        if preset.task != task:
            problem = f"{model} is a network to {preset.task}, the data are labelled to {task}"
            fitting = ", ".join(name for name in list_models(task=task) if name.endswith(("_small", "_tiny")))
            raise GossamerError(ErrorCode.CONFIG, "--models", problem, f"use {fitting}, ...")
        mechanisms = asked.attention if hasattr(preset, "attention") else (None,)
        kinds += [Kind(model=model, attention=attention) for attention in mechanisms]
    return kinds


def _same_size(
    dataset: ClassificationDataset | SegmentationDataset, kinds: list[Kind], asked: CompareRequest
) -> _Fitting:
    """Return the kinds that fit, all with one image size: what was asked, or the largest that one of them chooses."""
    fitting = _fit(dataset, kinds, asked)
    runs = list(fitting.runs.values())
    if not runs:
        raise GossamerError(
            ErrorCode.CONFIG, "--models", "no network with its mechanisms fits: " + fitting.refused[0].reason,
            "name other models or mechanisms",
        )  # fmt: skip
    if len({run.model.image_size for run in runs}) == 1:
        return fitting
    multiple = math.lcm(*(run.model.multiple for run in runs))
    largest = (max(run.model.image_size[axis] for run in runs) for axis in (0, 1))
    rows, columns = (-(-side // multiple) * multiple for side in largest)
    return _fit(dataset, kinds, dataclasses.replace(asked, image_size=(rows, columns)))


def _fit(dataset: ClassificationDataset | SegmentationDataset, kinds: list[Kind], asked: CompareRequest) -> _Fitting:
    runs: dict[Kind, RunConfig] = {}
    refused: list[Refused] = []
    for kind in kinds:
        wishes = TrainOptions(
            model=kind.model,
            attention=kind.attention,
            image_size=asked.image_size,
            epochs=asked.epochs,
            batch_size=asked.batch_size,
        )
        try:
            runs[kind] = plan_run(dataset, wishes)[0]
        except GossamerError as error:
            if error.code not in _MISFITS:
                raise
            refused.append(_refusal(kind, error))
    return _Fitting(runs, tuple(refused))


def _time(
    fitting: _Fitting, dataset: ClassificationDataset | SegmentationDataset, on_stage: Callable[[str], None]
) -> tuple[dict[Kind, Timed], list[Refused]]:
    timed: dict[Kind, Timed] = {}
    refused: list[Refused] = []
    now = process_memory()  # this process has loaded what training loads
    for number, (kind, run) in enumerate(fitting.runs.items(), start=1):
        on_stage(f"timing a few steps of {kind.name} ({number}/{len(fitting.runs)})")
        try:
            timed[kind] = time_run(run, dataset, base_bytes=None if now is None else now.resident_bytes)
        except GossamerError as error:
            refused.append(_refusal(kind, error))
    if not timed:
        raise GossamerError(ErrorCode.CONFIG, "--models", refused[0].reason, "name other models or mechanisms")
    return timed, refused


def _epochs(budget_minutes: float | None, timed: dict[Kind, Timed], most: int) -> int:
    """Return the epochs of all cells: the recipe's, or fewer where the slowest kind would not fit into the budget.

    Raises:
        GossamerError: ``E-LIMIT``, where not one epoch fits.
    """
    if budget_minutes is None:
        return most
    slowest = max(timed, key=lambda kind: timed[kind].epoch_s)
    epoch_s = timed[slowest].epoch_s
    epochs = math.floor(BUDGET_SHARE * 60 * budget_minutes / epoch_s)
    if epochs < 1:
        problem = f"an epoch of {slowest.name} takes about {epoch_s / 60:.1f} minutes, {budget_minutes:g} are given"
        remedy = f"give {math.ceil(epoch_s / 60 / BUDGET_SHARE)} or more, a smaller --image-size, or lighter models"
        raise GossamerError(ErrorCode.LIMIT, "--budget-minutes", problem, remedy)
    return min(most, epochs)


def _refusal(kind: Kind, error: GossamerError) -> Refused:
    return Refused(model=kind.model, attention=kind.attention, reason=f"{error.where}: {error.problem}")


def _notes(asked: CompareRequest, runs: dict[Kind, Any]) -> list[str]:
    """Return what a reader should know of the choice of kinds."""
    twins = {kind.model for kind in runs if kind.attention is not None and _is_twin(kind.attention)}
    alone = sorted({kind.model for kind in runs if kind.attention is not None} - twins)
    if not alone:
        return []
    how = "was not asked for" if TWIN not in asked.attention else "does not fit"
    return [f"{TWIN} {how} with {', '.join(alone)}: there is no twin to compare with"]


def _is_twin(attention: str) -> bool:
    return attention_config(attention) == attention_config(TWIN)
