"""The plan of a comparison: what is trained, on which data and for how long.

``plan.json`` keeps the keys of version 0.1.0, so that comparisons of that version open and resume.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer import config
from gossamer.checks import require
from gossamer.comparison.folder import STAGE_OF_PRECISION, STAGES, CompareFolder, Trial, TrialStage
from gossamer.comparison.request import CompareRequest
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_json, write_json
from gossamer.task import TaskName
from gossamer.training.recipe import Precision
from gossamer.variants import PRECISIONS, CostLimits, RuntimePrecision, Variant


@dataclass(frozen=True, kw_only=True)
class RefusedVariant:
    """A requested variant that cannot be trained on the data.

    Attributes:
        model: Name of a preset.
        attention: Attention mechanism.
        reason: Reason in one line.
    """

    model: str
    attention: str | None
    reason: str

    @property
    def variant(self) -> Variant:
        """The requested variant."""
        return Variant(model=self.model, attention=self.attention)


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """The data of a comparison.

    Attributes:
        source: Path of the data set.
        task: Name of the task.
        classes: Names of the classes, in the order of the outputs.
        fingerprint: SHA-256 of samples, labels and splits.
        contents: SHA-256 of the pixels; None before the comparison is started.
    """

    source: str
    task: TaskName
    classes: tuple[str, ...]
    fingerprint: str
    contents: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """Settings that all trials share.

    Attributes:
        seeds: Seeds; each variant is trained once with each.
        bundle_seeds: Seeds whose trials are exported and quantized.
        epochs: Number of epochs of every trial.
        image_size: Rows and columns of every network's input, in pixels.
        batch_size: Number of images of a training step.
        precision: Precision of matrix products during training.
    """

    seeds: tuple[int, ...]
    bundle_seeds: tuple[int, ...]
    epochs: int
    image_size: tuple[int, int]
    batch_size: int
    precision: Precision

    def __post_init__(self) -> None:
        distinct = bool(self.seeds) and len(set(self.seeds)) == len(self.seeds)
        require(distinct, "seeds", f"{self.seeds} are not distinct", "give one seed or more")
        require(self.epochs >= 1, "epochs", f"{self.epochs} is less than 1", "use a larger budget_minutes")


@dataclass(frozen=True, kw_only=True)
class TrainingForecast:
    """Forecast of a trial of one variant.

    Attributes:
        step_s: Time of a training step with the reading of its batch, in seconds.
        epoch_s: Time of an epoch with its validation, in seconds.
        train_s: Time of the whole training, in seconds.
        memory_bytes: Memory of the training process; None if it depends on the images.
        parameters: Number of parameters of the network.
    """

    step_s: float
    epoch_s: float
    train_s: float
    memory_bytes: int | None
    parameters: int


@dataclass(frozen=True, kw_only=True)
class ComparePlan:
    """What a comparison trains. It is fixed before the first trial, so that results do not depend on the clock.

    Attributes:
        request: Options that the user gave.
        data: Data set.
        training: Settings that all trials share.
        variants: Variants to train: the rows of the table.
        refused: Requested variants that cannot be trained on the data.
        forecasts: Forecast for each variant, by its key.
        notes: Sentences about the choice of variants and the size of the data.
        machine: Description of the computer.
        command: Command line that starts or resumes the comparison.
        mechanism_hashes: SHA-256 of the file of each mechanism that a user defined, by its text in the request.

    Raises:
        GossamerError: ``E-CONFIG`` for a plan without variants, or with two of one name.
    """

    request: CompareRequest
    data: DataSummary
    training: TrainingSummary
    variants: tuple[Variant, ...]
    refused: tuple[RefusedVariant, ...] = ()
    forecasts: dict[str, TrainingForecast]
    notes: tuple[str, ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    mechanism_hashes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [variant.key for variant in self.variants]
        require(bool(keys), "variants", "there is no variant to compare", "name other models")
        repeated = next((key for key in keys if keys.count(key) > 1), None)
        require(repeated is None, "variants", f"{repeated} is repeated", "name each once")

    @property
    def limits(self) -> CostLimits:
        """Limits of latency and memory for the recommendation."""
        return self.request.limits

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial: all variants with the first seed, then with the next, so that an unfinished table is fair."""
        return tuple(Trial(variant=variant, seed=seed) for seed in self.training.seeds for variant in self.variants)

    @property
    def precisions(self) -> tuple[RuntimePrecision, ...]:
        """Precisions in which variants are measured, in the order of ``PRECISIONS``."""
        return tuple(precision for precision in PRECISIONS if precision in self.request.precisions)

    def stages(self, trial: Trial) -> tuple[TrialStage, ...]:
        """Return the stages of a trial. Only some seeds and the requested precisions get a bundle."""
        if trial.seed not in self.training.bundle_seeds:
            return ("train",)
        wanted = {"train", *(STAGE_OF_PRECISION[precision] for precision in self.precisions)}
        return tuple(stage for stage in STAGES if stage in wanted)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as ``plan.json`` holds it."""
        request = self.request
        options: dict[str, Any] = {
            "asked": config.to_json(request),
            "fingerprint": self.data.fingerprint,
            "image_size": list(self.training.image_size),
            "batch_size": self.training.batch_size,
            "precision": self.training.precision,
            "precisions": list(request.precisions),
            "max_drop": request.max_drop,
            "bundle_seeds": list(self.training.bundle_seeds),
            "notes": list(self.notes),
            "forecast": config.to_json(self.forecasts),
        }
        if self.data.contents is not None:
            options["contents"] = self.data.contents
        if self.mechanism_hashes:
            options["mechanism_hashes"] = self.mechanism_hashes
        return {
            "data": self.data.source,
            "task": self.data.task,
            "classes": list(self.data.classes),
            "kinds": config.to_json(self.variants),
            "refused": config.to_json(self.refused),
            "seeds": list(self.training.seeds),
            "epochs": self.training.epochs,
            "budget_minutes": request.budget_minutes,
            "limits": config.to_json(request.limits),
            "threads": request.threads,
            "machine": self.machine,
            "command": self.command,
            "options": options,
        }


@dataclass(frozen=True, kw_only=True)
class _StoredOptions:
    """The object ``options`` of ``plan.json``."""

    asked: CompareRequest
    fingerprint: str
    image_size: tuple[int, int]
    batch_size: int
    precision: Precision
    precisions: tuple[RuntimePrecision, ...]
    max_drop: float
    bundle_seeds: tuple[int, ...]
    notes: tuple[str, ...]
    forecast: dict[str, TrainingForecast]
    contents: str | None = None
    mechanism_hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _StoredPlan:
    """The content of ``plan.json``."""

    data: str
    task: TaskName
    classes: tuple[str, ...]
    kinds: tuple[Variant, ...]
    refused: tuple[RefusedVariant, ...]
    seeds: tuple[int, ...]
    epochs: int
    budget_minutes: float | None
    limits: CostLimits
    threads: int
    machine: dict[str, Any]
    command: str
    options: _StoredOptions


def write_plan(folder: CompareFolder, plan: ComparePlan) -> None:
    """Write the plan of a comparison, completely or not at all."""
    write_json(folder.plan_path, plan.to_json())


def read_plan(path: Path) -> ComparePlan:
    """Return the plan of a comparison.

    Args:
        path: File ``plan.json``.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT`` or ``E-CONFIG``.
    """
    try:
        return _restore_plan(config.from_json(_StoredPlan, read_json(path), str(path)))
    except GossamerError as error:
        remedy = "use another folder, or restore the file from a backup"
        raise GossamerError(error.code, path, error.problem, remedy) from error


def _restore_plan(stored: _StoredPlan) -> ComparePlan:
    options = stored.options
    missing = next((variant.key for variant in stored.kinds if variant.key not in options.forecast), None)
    if missing is not None:
        raise GossamerError(ErrorCode.FORMAT, "options.forecast", f"{missing} has no forecast", "restore the file")
    return ComparePlan(
        request=dataclasses.replace(options.asked, limits=stored.limits, data=stored.data),
        data=DataSummary(
            source=stored.data,
            task=stored.task,
            classes=stored.classes,
            fingerprint=options.fingerprint,
            contents=options.contents,
        ),
        training=TrainingSummary(
            seeds=stored.seeds,
            bundle_seeds=options.bundle_seeds,
            epochs=stored.epochs,
            image_size=options.image_size,
            batch_size=options.batch_size,
            precision=options.precision,
        ),
        variants=stored.kinds,
        refused=stored.refused,
        forecasts=options.forecast,
        notes=options.notes,
        machine=stored.machine,
        command=stored.command,
        mechanism_hashes=options.mechanism_hashes,
    )
