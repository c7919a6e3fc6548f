"""The results of a comparison so far: every variant with what is known of it."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer import config
from gossamer.comparison.compare_plan import ComparePlan
from gossamer.comparison.folder import BASELINE, CompareFolder, VariantCosts
from gossamer.comparison.paired_tests import (
    PairedDifference,
    average_over_seeds,
    correct_holm,
    draw_weights,
    estimate_difference,
    name_unit,
    note_few_patients,
)
from gossamer.comparison.scores import Scores
from gossamer.comparison.tasks import TASKS
from gossamer.comparison.trial_results import TrialResult, read_trial
from gossamer.errors import GossamerError
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import read_json
from gossamer.profiling.figure import Figure
from gossamer.profiling.growth import loglog_slope
from gossamer.variants import RuntimePrecision, Variant

NOT_YET = Figure(None, "", "unavailable", "not measured yet")


@dataclass(frozen=True, kw_only=True)
class VariantResult:
    """Results of a variant.

    Attributes:
        variant: Variant.
        number: Number in the table, from 1.
        trials: Trial of each seed, finished or not.
        quality: Mean metric in floating point over the finished seeds, with its 95 % interval over patients.
        drop: Mean loss by int8 over the seeds that have it; its interval is the mean of their intervals.
        costs: Measured costs; None before the measurement.
        baseline: Variant that it is tested against; None for the baseline itself, or if there is none.
        versus: Difference to the baseline, if both are trained.
    """

    variant: Variant
    number: int
    trials: tuple[TrialResult, ...]
    quality: Estimate | None
    drop: Estimate | None
    costs: VariantCosts | None
    baseline: Variant | None
    versus: PairedDifference | None

    @property
    def trained(self) -> tuple[TrialResult, ...]:
        """The trials with outputs."""
        return tuple(trial for trial in self.trials if trial.scores is not None)

    @property
    def state(self) -> str:
        """Progress of the variant, for people."""
        failed = Counter(_describe_failure(trial) for trial in self.trials if trial.failed)
        done = sum(trial.state == "done" for trial in self.trials)
        if failed:
            return "; ".join(f"{failure}, {count} of {len(self.trials)}" for failure, count in failed.items())
        return "done" if done == len(self.trials) else f"{done} of {len(self.trials)} done"

    @property
    def training_seconds(self) -> float | None:
        """Mean time of a training in seconds."""
        seconds = [trial.training_seconds for trial in self.trained if trial.training_seconds is not None]
        return float(np.mean(seconds)) if seconds else None

    def quality_in(self, precision: RuntimePrecision) -> float | None:
        """Return the quality in a precision; in int8 it is the quality in floating point minus the loss."""
        if self.quality is None or not any(trial.has(precision) for trial in self.trials):
            return None
        if precision != "int8":
            return self.quality.value
        return None if self.drop is None else self.quality.value - self.drop.value

    def cost(self, name: str, precision: RuntimePrecision | None = None) -> Figure:
        """Return a measured figure.

        Args:
            name: Name of the figure, as ``VariantCosts`` lists them.
            precision: Precision of the figure; None for a figure of the network (default: None).
        """
        if self.costs is None:
            return NOT_YET
        table = self.costs.network if precision is None else self.costs.precisions.get(precision, {})
        return table.get(name, NOT_YET)

    def exponents(self) -> dict[str, float]:
        """Return the exponents with which MACs and latency grow with the number of pixels."""
        points = () if self.costs is None else self.costs.growth
        found = {}
        for name in ("macs", "latency"):
            figures = {math.prod(point.image_size): getattr(point, name).value for point in points}
            known = {size: value for size, value in figures.items() if value is not None and value > 0}
            found[name] = loglog_slope(list(known), list(known.values()))
        return found


@dataclass(frozen=True, kw_only=True)
class CollectedResults:
    """Results of a comparison, finished or not.

    Attributes:
        plan: Plan of the comparison.
        metric: Key of the metric that decides.
        label: Name of the metric for people.
        variants: Result of each variant, in the order of the plan.
        trivial: Metric of the trivial answer; None before the first trial.
        split: Name of the evaluated split.
        samples: Number of evaluated images or cases.
        groups: Number of evaluated patients; samples count if patients are unknown.
        notes: Remarks for the reader.
    """

    plan: ComparePlan
    metric: str
    label: str
    variants: tuple[VariantResult, ...]
    trivial: float | None
    split: str | None
    samples: int
    groups: int
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every trial has ended, well or not, and every trained variant is measured."""
        ended = all(trial.state in ("done", "failed") for result in self.variants for trial in result.trials)
        return ended and all(result.costs is not None for result in self.variants if result.trained)

    @property
    def comparisons(self) -> int:
        """Number of tests, for which p-values are corrected."""
        return sum(result.versus is not None and result.versus.p is not None for result in self.variants)

    @property
    def unit(self) -> str:
        """Name of what intervals resample: a patient, or a sample if patients are unknown."""
        scores = (trial.scores for result in self.variants for trial in result.trained)
        name = TASKS[self.plan.data.task].SAMPLE_NAME
        return next((name_unit(each.groups, name) for each in scores if each is not None), "sample")

    @property
    def int8_seeds(self) -> tuple[int, ...]:
        """Seeds with a known loss by int8."""
        trials = (trial for result in self.variants for trial in result.trials)
        return tuple(sorted({trial.trial.seed for trial in trials if trial.drop is not None}))

    def find_result(self, variant: Variant) -> VariantResult:
        """Return the result of a variant."""
        return next(result for result in self.variants if result.variant == variant)

    def pair_scores(self, ours: Variant, theirs: Variant) -> tuple[list[Scores], list[Scores]]:
        """Return the outputs of two variants for the seeds that both have, on the same samples."""
        return _pair_seeds(self.find_result(ours).trials, self.find_result(theirs).trials)

    def draw_weights(self) -> np.ndarray:
        """Return the draws of patients that every interval of the comparison uses."""
        scores = [trial.scores for result in self.variants for trial in result.trials if trial.scores is not None]
        return draw_weights(scores[0].groups)


def collect_results(folder: CompareFolder, plan: ComparePlan) -> CollectedResults:
    """Return the results in a folder, finished or not.

    Args:
        folder: Folder of the comparison.
        plan: Plan of the comparison.
    """
    task = TASKS[plan.data.task]
    trials = {
        variant: tuple(
            read_trial(folder, trial, task, plan.stages(trial)) for trial in plan.trials if trial.variant == variant
        )
        for variant in plan.variants
    }
    trained = [trial for row in trials.values() for trial in row if trial.scores is not None]
    notes: list[str] = []
    if trained:
        first = trained[0]
        assert first.scores is not None
        trials = {
            variant: tuple(_require_same_cases(trial, first.scores) for trial in row) for variant, row in trials.items()
        }
        if first.split == "val":
            notes.append("there is no test split; figures are from the validation split, which also chose the epochs")
    groups = trained[0].scores.groups if trained and trained[0].scores is not None else ()
    if groups and trained[0].split:
        notes += note_few_patients(len(set(groups)), name_unit(groups, task.SAMPLE_NAME), trained[0].split)
    weights = draw_weights(groups) if groups else np.empty((0, 0), np.uint16)
    costs = {variant: _read_costs(folder, variant, notes) for variant in plan.variants}
    differences = _test_against_baselines(trials, weights)
    variants = tuple(
        VariantResult(
            variant=variant,
            number=number,
            trials=trials[variant],
            quality=_average_quality(trials[variant], weights),
            drop=_average_estimates([trial.drop for trial in trials[variant] if trial.drop is not None]),
            costs=costs[variant],
            baseline=_find_baseline(variant, plan.variants),
            versus=differences.get(variant),
        )
        for number, variant in enumerate(plan.variants, start=1)
    )
    return CollectedResults(
        plan=plan,
        metric=task.METRIC,
        label=task.METRIC_LABEL,
        variants=variants,
        trivial=trained[0].trivial if trained else None,
        split=trained[0].split if trained else None,
        samples=len(groups),
        groups=len(set(groups)),
        notes=tuple(notes),
    )


def _describe_failure(trial: TrialResult) -> str:
    return "cannot be read" if trial.is_unreadable else f"{(trial.failed or '').split(':')[0]} failed"


def _require_same_cases(trial: TrialResult, first: Scores) -> TrialResult:
    """Return the trial, as a failed one if it was evaluated on other samples and cannot be paired."""
    if trial.scores is None or trial.scores.same_cases(first):
        return trial
    return trial.without_scores("train: was evaluated on other cases than the first trial; train it again")


def _find_baseline(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    baseline = Variant(model=variant.model, attention=BASELINE)
    return baseline if variant.attention not in (None, BASELINE) and baseline in variants else None


def _pair_seeds(ours: Sequence[TrialResult], theirs: Sequence[TrialResult]) -> tuple[list[Scores], list[Scores]]:
    known = {trial.trial.seed: trial.scores for trial in theirs if trial.scores is not None}
    pairs = [
        (trial.scores, known[trial.trial.seed])
        for trial in ours
        if trial.scores is not None and trial.trial.seed in known
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _test_against_baselines(
    trials: Mapping[Variant, tuple[TrialResult, ...]], weights: np.ndarray
) -> dict[Variant, PairedDifference]:
    """Return the difference of each variant to its baseline, tested and corrected for all of these tests."""
    found: dict[Variant, PairedDifference] = {}
    for variant, row in trials.items():
        baseline = _find_baseline(variant, list(trials))
        ours, theirs = _pair_seeds(row, trials[baseline]) if baseline else ([], [])
        if ours:
            found[variant] = estimate_difference(ours, theirs, weights, test=True)
    tested = {variant: each.p for variant, each in found.items() if each.p is not None and not math.isnan(each.p)}
    corrected = dict(zip(tested, correct_holm(list(tested.values())), strict=True))
    return {variant: dataclasses.replace(each, p_holm=corrected.get(variant)) for variant, each in found.items()}


def _average_quality(trials: Sequence[TrialResult], weights: np.ndarray) -> Estimate | None:
    scores = [trial.scores for trial in trials if trial.scores is not None]
    return average_over_seeds(scores, weights) if scores else None


def _average_estimates(estimates: Sequence[Estimate]) -> Estimate | None:
    """Return the mean of estimates; the ends are averaged too, as if all errors were correlated."""
    if not estimates:
        return None
    ends: list[list[Any]] = [[each.value, each.low, each.high] for each in estimates]
    return Estimate(*(float(value) for value in np.mean(ends, axis=0)))


def _read_costs(folder: CompareFolder, variant: Variant, notes: list[str]) -> VariantCosts | None:
    path = folder.costs_path(variant)
    if not path.exists():
        return None
    try:
        return config.from_json(VariantCosts, read_json(path), str(path))
    except GossamerError as error:
        notes.append(f"the costs of {variant.name} cannot be read: {error.problem}")
        return None
