"""The plan of a comparison, as its folder keeps it: what is trained, for how long, on what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gossamer import config
from gossamer.comparison.folder import STAGE_OF_PRECISION, STAGES, CompareFolder, Trial, TrialStage
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_json, write_json
from gossamer.variants import PRECISIONS, CostLimits, RuntimePrecision, Variant


@dataclass(frozen=True, kw_only=True)
class RefusedVariant:
    """A network with a mechanism that was asked for and cannot be had.

    Attributes:
        model: a preset.
        attention: a mechanism.
        reason: why not, in one line.
    """

    model: str
    attention: str | None
    reason: str

    @property
    def variant(self) -> Variant:
        """The variant that was asked for."""
        return Variant(model=self.model, attention=self.attention)


@dataclass(frozen=True, kw_only=True)
class ComparePlan:
    """What a comparison trains. It is fixed before the first trial, so that its results do not depend on the clock.

    Attributes:
        data: a data set, as it was given.
        task: what the data ask for.
        classes: names, in the order of the outputs.
        variants: the rows of the table.
        refused: variants that were asked for and cannot be had.
        seeds: each variant is trained once with each.
        epochs: of every trial.
        budget_minutes: of a trial's training, from which the epochs follow; None where they were given.
        limits: of the machine on which the network shall run.
        threads: of training and of measuring.
        machine: where this is done.
        command: the last that was given, which makes the comparison again.
        options: everything else that the trials share.
    """

    data: str
    task: Literal["classify", "segment"]
    classes: tuple[str, ...]
    variants: tuple[Variant, ...]
    refused: tuple[RefusedVariant, ...] = ()
    seeds: tuple[int, ...]
    epochs: int
    budget_minutes: float | None = None
    limits: CostLimits = field(default_factory=CostLimits)
    threads: int = 1
    machine: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [variant.key for variant in self.variants]
        if not keys:
            raise GossamerError(ErrorCode.CONFIG, "kinds", "there is none left to compare", "name other models")
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise GossamerError(ErrorCode.CONFIG, "kinds", f"{twice} is named twice", "name each once")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise GossamerError(ErrorCode.CONFIG, "seeds", f"{self.seeds} are not distinct", "give one or more seeds")
        if self.epochs < 1:
            raise GossamerError(ErrorCode.CONFIG, "epochs", f"{self.epochs} is below 1", "give a larger budget")

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every training, one seed of all variants after the other, so that a comparison cut short is a fair one."""
        return tuple(Trial(variant=variant, seed=seed) for seed in self.seeds for variant in self.variants)

    @property
    def precisions(self) -> tuple[RuntimePrecision, ...]:
        """In which the variants are measured, in the order of ``PRECISIONS``."""
        asked = self.options.get("precisions", PRECISIONS)
        return tuple(precision for precision in PRECISIONS if precision in asked)

    def stages(self, trial: Trial) -> tuple[TrialStage, ...]:
        """Return what is done with a trial: bundles are made of some seeds and in some precisions alone."""
        if trial.seed not in self.options.get("bundle_seeds", self.seeds):
            return ("train",)
        wanted = {"train", *(STAGE_OF_PRECISION[precision] for precision in self.precisions)}
        return tuple(stage for stage in STAGES if stage in wanted)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as ``plan.json`` holds it, where variants are still called kinds."""
        return {_STORED_NAMES.get(str(name), str(name)): value for name, value in config.to_json(self).items()}


_STORED_NAMES: dict[str, str] = {"variants": "kinds"}


def write_plan(folder: CompareFolder, plan: ComparePlan) -> None:
    """Write the plan of a comparison, all or nothing."""
    write_json(folder.plan, plan.to_json())


def read_plan(path: Path) -> ComparePlan:
    """Return a plan.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT`` or ``E-CONFIG``.
    """
    fields = {stored: name for name, stored in _STORED_NAMES.items()}
    try:
        data = read_json(path)
        data = {fields.get(key, key): value for key, value in data.items()} if isinstance(data, dict) else data
        return config.from_json(ComparePlan, data, str(path))
    except GossamerError as error:
        remedy = "give another --out, or put an unharmed copy in its place"
        raise GossamerError(error.code, path, error.problem, remedy) from error
