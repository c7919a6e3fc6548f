"""What a comparison came to so far: every variant with what is known of it, and what is missing by name."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer import config
from gossamer.comparison.fingerprint import name_interval_unit
from gossamer.comparison.folder import BASELINE, CompareFolder, MeasuredCosts
from gossamer.comparison.paired_tests import (
    PairedDifference,
    average_over_seeds,
    correct_holm,
    draw_weights,
    estimate_difference,
    note_few_patients,
)
from gossamer.comparison.plan_file import ComparePlan
from gossamer.comparison.scores import PRIMARY_METRICS, Scores
from gossamer.comparison.trial_results import TrialResult, read_trial
from gossamer.errors import GossamerError
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import read_json
from gossamer.profiling.exponent import loglog_slope
from gossamer.profiling.figure import Figure
from gossamer.variants import PRECISIONS, RuntimePrecision, Variant

NOT_YET = Figure(None, "", "unavailable", "not measured yet")


@dataclass(frozen=True, kw_only=True)
class VariantResult:
    """What is known of a network with a mechanism.

    Attributes:
        variant: which.
        number: in the table, from 1.
        trials: one a seed, as far as they have come.
        quality: mean over the seeds that are there, in floating point, with its 95 % interval over patients.
        drop: how much worse 8 bits are, mean over the seeds that have them; its interval is the mean of theirs.
        measured: what it costs; None where it is not measured.
        baseline: the variant that it is tested against; None where it is the baseline itself, or has none.
        versus: how much better than the baseline, where both are there.
    """

    variant: Variant
    number: int
    trials: tuple[TrialResult, ...]
    quality: Estimate | None
    drop: Estimate | None
    measured: MeasuredCosts | None
    baseline: Variant | None
    versus: PairedDifference | None

    @property
    def trained(self) -> tuple[TrialResult, ...]:
        """The trials with outputs."""
        return tuple(trial for trial in self.trials if trial.scores is not None)

    @property
    def state(self) -> str:
        """How far it has come, in words."""
        failed = Counter(_failure_text(trial) for trial in self.trials if trial.failed)
        done = sum(trial.state == "done" for trial in self.trials)
        if failed:
            return "; ".join(f"{ending}, {count} of {len(self.trials)}" for ending, count in failed.items())
        return "done" if done == len(self.trials) else f"{done} of {len(self.trials)} done"

    @property
    def training_seconds(self) -> float | None:
        """Of one trial, mean over those that are trained."""
        seconds = [trial.training_seconds for trial in self.trained if trial.training_seconds is not None]
        return float(np.mean(seconds)) if seconds else None

    def quality_in(self, precision: RuntimePrecision) -> float | None:
        """Return the quality in a precision; in 8 bits that in floating point less the drop."""
        if self.quality is None or not any(trial.has(precision) for trial in self.trials):
            return None
        if precision != "int8":
            return self.quality.value
        return None if self.drop is None else self.quality.value - self.drop.value

    def cost(self, name: str, precision: RuntimePrecision | None = None) -> Figure:
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
class CollectedResults:
    """What a comparison came to.

    Attributes:
        plan: what was asked for.
        metric: key of the metric that decides.
        label: how it is shown.
        variants: in the order of the plan.
        trivial: what the trivial answer gets; None before a trial is trained.
        split: that was evaluated.
        samples: images or cases of it.
        groups: patients, or samples where patients are unknown.
        notes: what a reader should know.
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
        """Whether every trial has ended, well or not, and every variant that trained is measured."""
        ended = all(trial.state in ("done", "failed") for result in self.variants for trial in result.trials)
        return ended and all(result.measured is not None for result in self.variants if result.trained)

    @property
    def comparisons(self) -> int:
        """Tests that were made, and corrected for."""
        return sum(result.versus is not None and result.versus.p is not None for result in self.variants)

    @property
    def unit(self) -> str:
        """What intervals are over, for one of them: patients, or samples where patients are unknown."""
        scores = (trial.scores for result in self.variants for trial in result.trained)
        return next((name_interval_unit(each.groups, self.plan.task) for each in scores if each is not None), "sample")

    @property
    def seeds_in_8_bits(self) -> tuple[int, ...]:
        """The seeds of which a drop to 8 bits is known."""
        return tuple(sorted({c.trial.seed for result in self.variants for c in result.trials if c.drop is not None}))

    def of(self, variant: Variant) -> VariantResult:
        """Return what is known of a variant."""
        return next(result for result in self.variants if result.variant == variant)

    def shared(self, ours: Variant, theirs: Variant) -> tuple[list[Scores], list[Scores]]:
        """Return the outputs of two variants for the seeds that both have, on the same cases."""
        return _pair_seeds(self.of(ours).trials, self.of(theirs).trials)

    def weights(self) -> np.ndarray:
        """Return the draws of patients that every interval of this comparison is made with."""
        scores = [trial.scores for result in self.variants for trial in result.trials if trial.scores is not None]
        return draw_weights(scores[0].groups)


def collect_results(folder: CompareFolder, plan: ComparePlan) -> CollectedResults:
    """Return what a comparison came to, of whatever its folder holds.

    Args:
        folder: of the comparison, finished or not.
        plan: of it.
    """
    metric, label = PRIMARY_METRICS[plan.task]
    trials = {
        variant: tuple(
            read_trial(folder, trial, plan.task, plan.stages(trial))
            for trial in plan.trials
            if trial.variant == variant
        )
        for variant in plan.variants
    }
    trained = [trial for row in trials.values() for trial in row if trial.scores is not None]
    notes: list[str] = []
    if trained:
        first = trained[0]
        assert first.scores is not None
        trials = {
            variant: tuple(_of_same_cases(trial, first.scores) for trial in row) for variant, row in trials.items()
        }
        if first.split == "val":
            notes.append("there is no test split; the figures are of the validation split, which chose the epochs")
    groups = trained[0].scores.groups if trained and trained[0].scores is not None else ()
    if groups and trained[0].split:
        notes += note_few_patients(len(set(groups)), name_interval_unit(groups, plan.task), trained[0].split)
    weights = draw_weights(groups) if groups else np.empty((0, 0), np.uint16)
    measured = {variant: _read_costs(folder, variant, notes) for variant in plan.variants}
    differences = _against_baselines(trials, weights)
    variants = tuple(
        VariantResult(
            variant=variant,
            number=number,
            trials=trials[variant],
            quality=_average_quality(trials[variant], weights),
            drop=_average_estimates([trial.drop for trial in trials[variant] if trial.drop is not None]),
            measured=measured[variant],
            baseline=_find_baseline(variant, plan.variants),
            versus=differences.get(variant),
        )
        for number, variant in enumerate(plan.variants, start=1)
    )
    return CollectedResults(
        plan=plan,
        metric=metric,
        label=label,
        variants=variants,
        trivial=trained[0].trivial if trained else None,
        split=trained[0].split if trained else None,
        samples=len(groups),
        groups=len(set(groups)),
        notes=tuple(notes),
    )


def _failure_text(trial: TrialResult) -> str:
    return "cannot be read" if trial.failed_to_be_read else f"{(trial.failed or '').split(':')[0]} failed"


def _of_same_cases(trial: TrialResult, first: Scores) -> TrialResult:
    """Return the trial, failed where it was evaluated on other cases: nothing of it can be paired."""
    if trial.scores is None or trial.scores.same_cases(first):
        return trial
    return trial.without_scores("train: was evaluated on other cases than the first trial; train it again")


def _find_baseline(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    baseline = Variant(model=variant.model, attention=BASELINE)
    return baseline if variant.attention not in (None, BASELINE) and baseline in variants else None


def _pair_seeds(ours: Sequence[TrialResult], theirs: Sequence[TrialResult]) -> tuple[list[Scores], list[Scores]]:
    known = {trial.trial.seed: trial.scores for trial in theirs if trial.scores is not None}
    pairs = [(c.scores, known[c.trial.seed]) for c in ours if c.scores is not None and c.trial.seed in known]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _against_baselines(
    trials: Mapping[Variant, tuple[TrialResult, ...]], weights: np.ndarray
) -> dict[Variant, PairedDifference]:
    """Return each variant against its baseline, tested, and corrected for all of these tests."""
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
    """Return the mean of estimates; its ends are the means of theirs, as if all erred together."""
    if not estimates:
        return None
    ends: list[list[Any]] = [[each.value, each.low, each.high] for each in estimates]
    return Estimate(*(float(value) for value in np.mean(ends, axis=0)))


def _read_costs(folder: CompareFolder, variant: Variant, notes: list[str]) -> MeasuredCosts | None:
    path = folder.measured(variant)
    if not path.exists():
        return None
    try:
        return config.from_json(MeasuredCosts, read_json(path), str(path))
    except GossamerError as error:
        notes.append(f"what {variant.name} costs cannot be read: {error.problem}")
        return None


def all_precisions(result: VariantResult) -> list[RuntimePrecision]:
    """Return the precisions in which a variant is there, with its quality."""
    return [precision for precision in PRECISIONS if result.quality_in(precision) is not None]
