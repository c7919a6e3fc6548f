"""The plan of a comparison, as its folder keeps it: what is trained, for how long, on what."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gossamer import config
from gossamer.comparison.folder import NEEDED, PRECISIONS, STAGES, Cell, CompareFolder, Kind, Precision, Stage, key_of
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_json, write_json

MB = 10**6
"""Bytes of a megabyte, in which memory is limited."""


@dataclass(frozen=True, kw_only=True)
class Refused:
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
    def kind(self) -> Kind:
        """The kind that was asked for."""
        return Kind(model=self.model, attention=self.attention)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the machine of the user allows; None where nothing was asked.

    Attributes:
        latency_ms: largest median of the latency of one image.
        memory_mb: largest peak of a process, in MB of 10^6 bytes.
    """

    latency_ms: float | None = None
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        for name in ("latency_ms", "memory_mb"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                option = f"--max-{name.replace('_', '-')}"
                remedy = "give a limit that can be met"
                raise GossamerError(ErrorCode.CONFIG, option, f"{limit} is not above 0 and finite", remedy)


@dataclass(frozen=True, kw_only=True)
class ComparePlan:
    """What a comparison trains. It is fixed before the first cell, so that its results do not depend on the clock.

    Attributes:
        data: a data set, as it was given.
        task: what the data ask for.
        classes: names, in the order of the outputs.
        kinds: the rows of the table.
        refused: kinds that were asked for and cannot be had.
        seeds: each kind is trained once with each.
        epochs: of every cell.
        budget_minutes: of a cell's training, from which the epochs follow; None where they were given.
        limits: of the machine on which the network shall run.
        threads: of training and of measuring.
        machine: where this is done.
        command: the last that was given, which makes the comparison again.
        options: everything else that the cells share.
    """

    data: str
    task: Literal["classify", "segment"]
    classes: tuple[str, ...]
    kinds: tuple[Kind, ...]
    refused: tuple[Refused, ...] = ()
    seeds: tuple[int, ...]
    epochs: int
    budget_minutes: float | None = None
    limits: Limits = Limits()
    threads: int = 1
    machine: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [key_of(kind) for kind in self.kinds]
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
    def cells(self) -> tuple[Cell, ...]:
        """Every training, one seed of all kinds after the other, so that a comparison cut short is a fair one."""
        return tuple(Cell(kind=kind, seed=seed) for seed in self.seeds for kind in self.kinds)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """In which the kinds are measured, in the order of ``PRECISIONS``."""
        asked = self.options.get("precisions", PRECISIONS)
        return tuple(precision for precision in PRECISIONS if precision in asked)

    def stages(self, cell: Cell) -> tuple[Stage, ...]:
        """Return what is done with a cell: bundles are made of some seeds and in some precisions alone."""
        if cell.seed not in self.options.get("bundle_seeds", self.seeds):
            return ("train",)
        wanted = {"train", *(NEEDED[precision] for precision in self.precisions)}
        return tuple(stage for stage in STAGES if stage in wanted)


def write_plan(folder: CompareFolder, plan: ComparePlan) -> None:
    """Write the plan of a comparison, all or nothing."""
    write_json(folder.plan, config.to_json(plan))


def read_plan(path: Path) -> ComparePlan:
    """Return a plan.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT`` or ``E-CONFIG``.
    """
    try:
        return config.from_json(ComparePlan, read_json(path), str(path))
    except GossamerError as error:
        remedy = "give another --out, or put an unharmed copy in its place"
        raise GossamerError(error.code, path, error.problem, remedy) from error
