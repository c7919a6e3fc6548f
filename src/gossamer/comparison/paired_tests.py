"""How sure a difference is: paired resampling of patients, all seeds together.

Intervals are percentile bootstrap over patients (Efron and Tibshirani, 1993, chapter 13). Tests are paired
permutations: in each patient the outputs of two networks change places or do not; of a ranking they are ranks, so that
two scales of probabilities do not matter (Bandos, Rockette and Gur, Statistics in Medicine, 2005). Several tests are
corrected together (Holm, Scandinavian Journal of Statistics, 1979).

Only patients are resampled. The seeds are averaged and not resampled: three are too few for that, so that the intervals
hold for these trained networks, and each seed is shown beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.comparison.scores import Scores
from gossamer.evaluation.bootstrap import RESAMPLES, Estimate

PERMUTATIONS, FEWER_PERMUTATIONS, MANY_SAMPLES = 4999, 999, 2000
FEWEST, FEW = 2, 10
"""Patients below which there is no interval, and below which it is rough."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How much better one variant is than another.

    Attributes:
        estimate: of the metric of the one minus that of the other, mean over seeds, with its 95 % interval.
        seeds: the difference of each seed that both have.
        p: of the paired permutation test, two-sided; None where it was not asked for, or one patient alone is there.
        p_holm: the same, corrected for all comparisons of the table.
        permutations: that were drawn.
    """

    estimate: Estimate
    seeds: tuple[float, ...]
    p: float | None = None
    p_holm: float | None = None
    permutations: int = 0

    @property
    def includes_zero(self) -> bool:
        """Whether the interval does not tell the two apart; without an interval nothing is told apart."""
        return not (self.estimate.low > 0 or self.estimate.high < 0)


def draw_weights(groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return how often each sample occurs when whole patients are drawn with replacement.

    Args:
        groups: the patient of each sample.
        resamples: how many draws.
        seed: of the draws.

    Returns:
        ``(resamples, samples)`` of counts; no row where there is one patient alone, who says nothing of others.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < FEWEST:
        return np.empty((0, len(groups)), np.uint16)
    generator = np.random.default_rng([seed, 3])
    draws = generator.integers(len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws])
    return counts[:, members].astype(np.uint16)


def note_few_patients(count: int, what: str, split: str) -> list[str]:
    """Return what a reader should know of intervals from so few patients; nothing where they are enough.

    Args:
        count: of patients that are evaluated.
        what: they are: ``patient``, or the sample where patients are unknown.
        split: that is evaluated.
    """
    split = "validation" if split == "val" else split
    if count < FEWEST:
        return [f"no intervals and no tests: the {split} split has {count} {what}, {FEWEST} or more are needed"]
    if count < FEW:
        return [f"intervals are wide and rough: the {split} split has {count} {what}s, fewer than {FEW}"]
    return []


def average_over_seeds(scores: Sequence[Scores], weights: np.ndarray) -> Estimate:
    """Return the mean over seeds of a metric with its interval, every seed seen under the same draws of patients."""
    values = np.array([each.value() for each in scores])
    return _percentile_estimate(float(values.mean()), _mean_metric(scores, weights))


def estimate_difference(
    ours: Sequence[Scores], theirs: Sequence[Scores], weights: np.ndarray, *, test: bool = False, seed: int = 0
) -> PairedDifference:
    """Return how much better ``ours`` is than ``theirs``, paired by patient and by seed.

    Args:
        ours: of each seed that both have.
        theirs: of the same seeds in the same order, on the same cases.
        weights: draws of patients, as ``draw_weights`` has them.
        test: whether to permute.
        seed: of the permutations.
    """
    seeds = tuple(a.value() - b.value() for a, b in zip(ours, theirs, strict=True))
    drawn = _mean_metric(ours, weights) - _mean_metric(theirs, weights)
    estimate = _percentile_estimate(float(np.mean(seeds)), drawn)
    if not test or len(set(ours[0].groups)) < FEWEST:
        return PairedDifference(estimate=estimate, seeds=seeds)
    p, permutations = _permutation_p(ours, theirs, seed)
    return PairedDifference(estimate=estimate, seeds=seeds, p=p, permutations=permutations)


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, by Holm's step-down: each is at most the next larger one."""
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = reached
    return corrected


def add_estimates(*parts: Estimate) -> Estimate:
    """Return the sum of independent estimates with an interval from theirs.

    The distances of the ends add in quadrature (variance recovery: Zou and Donner, Statistics in Medicine, 2008).
    """
    value = sum(part.value for part in parts)
    below = math.sqrt(sum((part.value - part.low) ** 2 for part in parts))
    above = math.sqrt(sum((part.high - part.value) ** 2 for part in parts))
    return Estimate(value, value - below, value + above)


def negate_estimate(estimate: Estimate) -> Estimate:
    """Return an estimate with the other sign."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _permutation_p(ours: Sequence[Scores], theirs: Sequence[Scores], seed: int) -> tuple[float, int]:
    """Return the share of exchanges with a difference at least as large as the one met, which counts as one of them."""
    first = ours[0]
    names, members = np.unique(np.asarray(first.groups), return_inverse=True)
    count = PERMUTATIONS if len(members) <= MANY_SAMPLES else FEWER_PERMUTATIONS
    swapped = np.random.default_rng([seed, 5]).integers(2, size=(count, len(names)), dtype=np.uint8)[:, members]
    swapped = np.concatenate([np.zeros((1, len(members)), np.uint8), swapped])  # the first is the one met
    found = np.zeros(count + 1)
    for a, b in zip(ours, theirs, strict=True):
        both = a.beside(b)
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
