"""Intervals and tests of paired differences, by resampling patients with all seeds together.

Intervals are percentile bootstraps over patients (Efron and Tibshirani, 1993, chapter 13). Tests are paired
permutations: within each patient the outputs of two networks are exchanged or kept; for a ranking metric they are
ranks, so that two scales of probabilities do not matter (Bandos, Rockette and Gur, Statistics in Medicine, 2005).
Several tests are corrected together (Holm, Scandinavian Journal of Statistics, 1979).

Only patients are resampled. Seeds are averaged and not resampled, since three are too few for that: the intervals hold
for these trained networks, and each seed is shown next to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.comparison.scores import Scores
from gossamer.evaluation.bootstrap import RESAMPLES, Estimate

PERMUTATIONS, FEWER_PERMUTATIONS, MANY_SAMPLES = 4999, 999, 2000
SIGNIFICANCE_LEVEL = 0.05
FEWEST, FEW = 2, 10
"""Number of patients below which there is no interval, and below which it is rough."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Difference of a metric between two variants.

    Attributes:
        estimate: Metric of the first minus that of the second, mean over seeds, with its 95 % interval.
        seeds: Difference for each seed that both variants have.
        p: Two-sided p of the paired permutation test; None without a test, or with a single patient.
        p_holm: The same p, corrected for all comparisons of the table.
        permutations: Number of drawn permutations.
    """

    estimate: Estimate
    seeds: tuple[float, ...]
    p: float | None = None
    p_holm: float | None = None
    permutations: int = 0

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p is below the level of significance."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANCE_LEVEL


def draw_weights(groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return how often each sample occurs when whole patients are drawn with replacement.

    Args:
        groups: Patient of each sample.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        Counts, ``(resamples, samples)``; no row for a single patient, who does not represent others.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < FEWEST:
        return np.empty((0, len(groups)), np.uint16)
    generator = np.random.default_rng([seed, 3])
    draws = generator.integers(len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws])
    return counts[:, members].astype(np.uint16)


def note_few_patients(count: int, unit: str, split: str) -> list[str]:
    """Return a note on intervals from few patients; no note for enough of them.

    Args:
        count: Number of evaluated patients.
        unit: Name of one of them, from ``name_unit``.
        split: Name of the evaluated split.
    """
    split = "validation" if split == "val" else split
    if count < FEWEST:
        return [f"no intervals and no tests: the {split} split has {count} {unit}, {FEWEST} or more are needed"]
    if count < FEW:
        return [f"intervals are wide and rough: the {split} split has {count} {unit}s, fewer than {FEW}"]
    return []


def name_unit(groups: Iterable[str], sample_name: str) -> str:
    """Return the name of what is resampled: a patient, or a sample if patients are unknown.

    Args:
        groups: Patient of each sample, from ``groups_of``.
        sample_name: Name of a sample of the task.
    """
    return "patient" if any(group.startswith("patient ") for group in groups) else sample_name


def average_over_seeds(scores: Sequence[Scores], weights: np.ndarray) -> Estimate:
    """Return the mean of a metric over seeds with its interval; every seed has the same draws of patients.

    Args:
        scores: Outputs for each seed.
        weights: Draws of patients, from ``draw_weights``.
    """
    values = np.array([each.value() for each in scores])
    return _percentile_estimate(float(values.mean()), _mean_metric(scores, weights))


def estimate_difference(
    ours: Sequence[Scores], theirs: Sequence[Scores], weights: np.ndarray, *, test: bool = False, seed: int = 0
) -> PairedDifference:
    """Return the difference of ``ours`` to ``theirs``, paired by patient and by seed.

    Args:
        ours: Outputs for each seed that both have.
        theirs: Outputs for the same seeds in the same order, on the same samples.
        weights: Draws of patients, from ``draw_weights``.
        test: Whether to run the permutation test (default: False).
        seed: Seed of the permutations.
    """
    seeds = tuple(a.value() - b.value() for a, b in zip(ours, theirs, strict=True))
    drawn = _mean_metric(ours, weights) - _mean_metric(theirs, weights)
    estimate = _percentile_estimate(float(np.mean(seeds)), drawn)
    if not test or len(set(ours[0].groups)) < FEWEST:
        return PairedDifference(estimate=estimate, seeds=seeds)
    p, permutations = _permutation_p(ours, theirs, seed)
    return PairedDifference(estimate=estimate, seeds=seeds, p=p, permutations=permutations)


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method, in the order of the argument."""
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = reached
    return corrected


def add_estimates(*parts: Estimate) -> Estimate:
    """Return the sum of independent estimates, with an interval recovered from their intervals.

    The distances to the ends add in quadrature (variance recovery: Zou and Donner, Statistics in Medicine, 2008).
    """
    value = sum(part.value for part in parts)
    below = math.sqrt(sum((part.value - part.low) ** 2 for part in parts))
    above = math.sqrt(sum((part.high - part.value) ** 2 for part in parts))
    return Estimate(value, value - below, value + above)


def negate_estimate(estimate: Estimate) -> Estimate:
    """Return an estimate with the opposite sign."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _permutation_p(ours: Sequence[Scores], theirs: Sequence[Scores], seed: int) -> tuple[float, int]:
    """Return the share of exchanges with a difference at least as large as the observed one, and their number.

    The observed difference counts as one exchange.
    """
    first = ours[0]
    names, members = np.unique(np.asarray(first.groups), return_inverse=True)
    count = PERMUTATIONS if len(members) <= MANY_SAMPLES else FEWER_PERMUTATIONS
    swapped = np.random.default_rng([seed, 5]).integers(2, size=(count, len(names)), dtype=np.uint8)[:, members]
    swapped = np.concatenate([np.zeros((1, len(members)), np.uint8), swapped])  # the first is the observed one
    found = np.zeros(count + 1)
    for a, b in zip(ours, theirs, strict=True):
        both = a.stack_with(b)
        found += both.metric(np.concatenate([1 - swapped, swapped], axis=1))
        found -= both.metric(np.concatenate([swapped, 1 - swapped], axis=1))
    if math.isnan(found[0]):
        return math.nan, count
    found = found[~np.isnan(found)]
    # An exchange that gives the same table must count, whatever the order of its sums.
    return float((np.abs(found) >= abs(found[0]) - 1e-12).mean()), count


def _mean_metric(scores: Sequence[Scores], weights: np.ndarray) -> np.ndarray:
    return np.mean([each.metric(weights) for each in scores], axis=0) if len(weights) else np.empty(0)


def _percentile_estimate(value: float, drawn: np.ndarray) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return Estimate(value, math.nan, math.nan)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
