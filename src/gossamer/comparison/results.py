"""What a comparison came to so far: every kind with what is known of it, and what is missing by name."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer import config
from gossamer.comparison.cell_results import CellResult, read_cell
from gossamer.comparison.fingerprint import unit_of
from gossamer.comparison.folder import PRECISIONS, TWIN, CompareFolder, Kind, Measured, Precision
from gossamer.comparison.plan_file import ComparePlan
from gossamer.comparison.scores import PRIMARY, Scores
from gossamer.comparison.statistics import (
    Difference,
    difference,
    draw_weights,
    holm,
    interval_note,
    mean_over_seeds,
)
from gossamer.errors import GossamerError
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import read_json
from gossamer.profiling.exponent import loglog_slope
from gossamer.profiling.figure import Figure

NOT_YET = Figure(None, "", "unavailable", "not measured yet")


@dataclass(frozen=True, kw_only=True)
class KindResult:
    """What is known of a network with a mechanism.

    Attributes:
        kind: which.
        number: in the table, from 1.
        cells: one a seed, as far as they have come.
        quality: mean over the seeds that are there, in floating point, with its 95 % interval over patients.
        drop: how much worse 8 bits are, mean over the seeds that have them; its interval is the mean of theirs.
        measured: what it costs; None where it is not measured.
        twin: the kind that it is tested against; None where it is the twin itself, or has none.
        versus: how much better than the twin, where both are there.
    """

    kind: Kind
    number: int
    cells: tuple[CellResult, ...]
    quality: Estimate | None
    drop: Estimate | None
    measured: Measured | None
    twin: Kind | None
    versus: Difference | None

    @property
    def trained(self) -> tuple[CellResult, ...]:
        """The cells with outputs."""
        return tuple(cell for cell in self.cells if cell.scores is not None)

    @property
    def state(self) -> str:
        """How far it has come, in words."""
        failed = Counter(_ending(cell) for cell in self.cells if cell.failed)
        done = sum(cell.state == "done" for cell in self.cells)
        if failed:
            return "; ".join(f"{ending}, {count} of {len(self.cells)}" for ending, count in failed.items())
        return "done" if done == len(self.cells) else f"{done} of {len(self.cells)} done"

    @property
    def training_seconds(self) -> float | None:
        """Of one cell, mean over those that are trained."""
        seconds = [cell.training_seconds for cell in self.trained if cell.training_seconds is not None]
        return float(np.mean(seconds)) if seconds else None

    def quality_in(self, precision: Precision) -> float | None:
        """Return the quality in a precision; in 8 bits that in floating point less the drop."""
        if self.quality is None or not any(cell.has(precision) for cell in self.cells):
            return None
        if precision != "int8":
            return self.quality.value
        return None if self.drop is None else self.quality.value - self.drop.value

    def cost(self, name: str, precision: Precision | None = None) -> Figure:
        """Return a figure of the network, or of one of its precisions."""
        if self.measured is None:
            return NOT_YET
        table = self.measured.network if precision is None else self.measured.precisions.get(precision, {})
        return table.get(name, NOT_YET)

    def exponents(self) -> dict[str, float]:
        """Return how MACs and latency grow with the number of pixels, as powers."""
        points = () if self.measured is None else self.measured.growth
        found = {}
        for name in ("macs", "latency"):
            figures = {math.prod(point.image_size): getattr(point, name).value for point in points}
            known = {size: value for size, value in figures.items() if value is not None and value > 0}
            found[name] = loglog_slope(list(known), list(known.values()))
        return found


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a comparison came to.

    Attributes:
        plan: what was asked for.
        metric: key of the metric that decides.
        label: how it is shown.
        kinds: in the order of the plan.
        trivial: what the trivial answer gets; None before a cell is trained.
        split: that was evaluated.
        samples: images or cases of it.
        groups: patients, or samples where patients are unknown.
        notes: what a reader should know.
    """

    plan: ComparePlan
    metric: str
    label: str
    kinds: tuple[KindResult, ...]
    trivial: float | None
    split: str | None
    samples: int
    groups: int
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every cell has ended, well or not, and every kind that trained is measured."""
        ended = all(cell.state in ("done", "failed") for result in self.kinds for cell in result.cells)
        return ended and all(result.measured is not None for result in self.kinds if result.trained)

    @property
    def comparisons(self) -> int:
        """Tests that were made, and corrected for."""
        return sum(result.versus is not None and result.versus.p is not None for result in self.kinds)

    @property
    def unit(self) -> str:
        """What intervals are over, for one of them: patients, or samples where patients are unknown."""
        scores = (cell.scores for result in self.kinds for cell in result.trained)
        return next((unit_of(each.groups, self.plan.task) for each in scores if each is not None), "sample")

    @property
    def seeds_in_8_bits(self) -> tuple[int, ...]:
        """The seeds of which a drop to 8 bits is known."""
        return tuple(sorted({c.cell.seed for result in self.kinds for c in result.cells if c.drop is not None}))

    def of(self, kind: Kind) -> KindResult:
        """Return what is known of a kind."""
        return next(result for result in self.kinds if result.kind == kind)

    def shared(self, ours: Kind, theirs: Kind) -> tuple[list[Scores], list[Scores]]:
        """Return the outputs of two kinds for the seeds that both have, on the same cases."""
        return _shared(self.of(ours).cells, self.of(theirs).cells)

    def weights(self) -> np.ndarray:
        """Return the draws of patients that every interval of this comparison is made with."""
        scores = [cell.scores for result in self.kinds for cell in result.cells if cell.scores is not None]
        return draw_weights(scores[0].groups)


def read_results(folder: CompareFolder, plan: ComparePlan) -> Results:
    """Return what a comparison came to, of whatever its folder holds.

    Args:
        folder: of the comparison, finished or not.
        plan: of it.
    """
    metric, label = PRIMARY[plan.task]
    cells = {
        kind: tuple(read_cell(folder, cell, plan.task, plan.stages(cell)) for cell in plan.cells if cell.kind == kind)
        for kind in plan.kinds
    }
    trained = [cell for row in cells.values() for cell in row if cell.scores is not None]
    notes: list[str] = []
    if trained:
        first = trained[0]
        assert first.scores is not None
        cells = {kind: tuple(_of_same_cases(cell, first.scores) for cell in row) for kind, row in cells.items()}
        if first.split == "val":
            notes.append("there is no test split; the figures are of the validation split, which chose the epochs")
    groups = trained[0].scores.groups if trained and trained[0].scores is not None else ()
    if groups and trained[0].split:
        notes += interval_note(len(set(groups)), unit_of(groups, plan.task), trained[0].split)
    weights = draw_weights(groups) if groups else np.empty((0, 0), np.uint16)
    measured = {kind: _measured(folder, kind, notes) for kind in plan.kinds}
    differences = _against_twins(cells, weights)
    kinds = tuple(
        KindResult(
            kind=kind,
            number=number,
            cells=cells[kind],
            quality=_quality(cells[kind], weights),
            drop=_mean([cell.drop for cell in cells[kind] if cell.drop is not None]),
            measured=measured[kind],
            twin=_twin(kind, plan.kinds),
            versus=differences.get(kind),
        )
        for number, kind in enumerate(plan.kinds, start=1)
    )
    return Results(
        plan=plan,
        metric=metric,
        label=label,
        kinds=kinds,
        trivial=trained[0].trivial if trained else None,
        split=trained[0].split if trained else None,
        samples=len(groups),
        groups=len(set(groups)),
        notes=tuple(notes),
    )


def _ending(cell: CellResult) -> str:
    return "cannot be read" if cell.failed_to_be_read else f"{(cell.failed or '').split(':')[0]} failed"


def _of_same_cases(cell: CellResult, first: Scores) -> CellResult:
    """Return the cell, failed where it was evaluated on other cases: nothing of it can be paired."""
    if cell.scores is None or cell.scores.same_cases(first):
        return cell
    return cell.without_scores("train: was evaluated on other cases than the first cell; train it again")


def _twin(kind: Kind, kinds: Sequence[Kind]) -> Kind | None:
    twin = Kind(model=kind.model, attention=TWIN)
    return twin if kind.attention not in (None, TWIN) and twin in kinds else None


def _shared(ours: Sequence[CellResult], theirs: Sequence[CellResult]) -> tuple[list[Scores], list[Scores]]:
    known = {cell.cell.seed: cell.scores for cell in theirs if cell.scores is not None}
    pairs = [(c.scores, known[c.cell.seed]) for c in ours if c.scores is not None and c.cell.seed in known]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _against_twins(cells: Mapping[Kind, tuple[CellResult, ...]], weights: np.ndarray) -> dict[Kind, Difference]:
    """Return each kind against its twin, tested, and corrected for all of these tests."""
    found: dict[Kind, Difference] = {}
    for kind, row in cells.items():
        twin = _twin(kind, list(cells))
        ours, theirs = _shared(row, cells[twin]) if twin else ([], [])
        if ours:
            found[kind] = difference(ours, theirs, weights, test=True)
    tested = {kind: each.p for kind, each in found.items() if each.p is not None and not math.isnan(each.p)}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {kind: dataclasses.replace(each, holm=corrected.get(kind)) for kind, each in found.items()}


def _quality(cells: Sequence[CellResult], weights: np.ndarray) -> Estimate | None:
    scores = [cell.scores for cell in cells if cell.scores is not None]
    return mean_over_seeds(scores, weights) if scores else None


def _mean(estimates: Sequence[Estimate]) -> Estimate | None:
    """Return the mean of estimates; its ends are the means of theirs, as if all erred together."""
    if not estimates:
        return None
    ends: list[list[Any]] = [[each.value, each.low, each.high] for each in estimates]
    return Estimate(*(float(value) for value in np.mean(ends, axis=0)))


def _measured(folder: CompareFolder, kind: Kind, notes: list[str]) -> Measured | None:
    path = folder.measured(kind)
    if not path.exists():
        return None
    try:
        return config.from_json(Measured, read_json(path), str(path))
    except GossamerError as error:
        notes.append(f"what {kind.name} costs cannot be read: {error.problem}")
        return None


def all_precisions(result: KindResult) -> list[Precision]:
    """Return the precisions in which a kind is there, with its quality."""
    return [precision for precision in PRECISIONS if result.quality_in(precision) is not None]
