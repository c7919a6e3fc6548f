"""Percentile bootstrap intervals over patients (Efron and Tibshirani, 1993, chapter 13)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval; NaN where it is undefined.

    Attributes:
        value: Value on all samples.
        low: Lower limit of the interval.
        high: Upper limit of the interval.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as data."""
        return {"value": self.value, "low": self.low, "high": self.high}


def bootstrap_metrics(
    metrics: Callable[[np.ndarray], dict[str, float]],
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return each metric with its interval, resampling whole groups with replacement.

    Images of a patient resemble each other, so resampling images would make the interval too narrow. Resamples in
    which a metric is undefined are ignored. With a single group the interval is NaN, since nothing shows how groups
    differ.

    Args:
        metrics: Function that returns metrics by name for row numbers, which may be repeated.
        groups: Patient of each row; a row of an unknown patient is a group by itself.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    rows = [np.flatnonzero(members == group) for group in range(len(names))]
    generator = np.random.default_rng([seed, 3])
    point = metrics(np.arange(len(groups)))
    if len(rows) < 2:
        return {name: Estimate(value, math.nan, math.nan) for name, value in point.items()}
    drawn = [
        metrics(np.concatenate([rows[group] for group in generator.integers(len(rows), size=len(rows))]))
        for _ in range(resamples)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN: the metric is undefined, and so is its interval
        bounds = {name: np.nanpercentile([sample[name] for sample in drawn], [2.5, 97.5]) for name in point}
    return {name: Estimate(value, float(bounds[name][0]), float(bounds[name][1])) for name, value in point.items()}
