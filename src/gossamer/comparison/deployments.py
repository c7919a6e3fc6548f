"""The choices of a comparison: every variant in every precision, with its quality and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.comparison.paired_tests import add_estimates, estimate_difference, negate_estimate
from gossamer.comparison.results import CollectedResults, VariantResult
from gossamer.evaluation.bootstrap import Estimate
from gossamer.variants import MB, PRECISION_NAMES, PRECISIONS, CostLimits, RuntimePrecision


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A variant in one precision.

    Attributes:
        result: Result of the variant.
        precision: PyTorch, or a bundle in float32 or int8.
        quality: Mean metric over seeds.
        latency_ms: Median latency of one image in milliseconds; None if it is not measured.
        memory_mb: Peak memory of a fresh process in MB; None if it is not measured.
    """

    result: VariantResult
    precision: RuntimePrecision
    quality: float
    latency_ms: float | None
    memory_mb: float | None

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.result.variant.name} in {PRECISION_NAMES[self.precision]}"

    @property
    def latency_or_infinity(self) -> float:
        """Latency in milliseconds, infinite if it is not measured, to order deployments by speed."""
        return math.inf if self.latency_ms is None else self.latency_ms

    def limit_ratios(self, limits: CostLimits) -> dict[str, float]:
        """Return the ratio of each limited cost to its limit; infinite if the cost is not measured.

        Args:
            limits: Limits of latency and memory.
        """
        costs = {"latency_ms": self.latency_ms, "memory_mb": self.memory_mb}
        allowed = {name: getattr(limits, name) for name in costs}
        return {
            name: math.inf if value is None else value / allowed[name]
            for name, value in costs.items()
            if allowed[name] is not None
        }


def list_deployments(results: CollectedResults) -> list[Deployment]:
    """Return every variant in every precision with a known quality."""
    found = []
    for result in results.variants:
        for precision in PRECISIONS:
            quality = result.quality_in(precision)
            if quality is not None and not math.isnan(quality):
                latency, memory = (result.cost(name, precision).value for name in ("latency_p50", "peak_memory"))
                memory_mb = None if memory is None else memory / MB
                found.append(
                    Deployment(
                        result=result, precision=precision, quality=quality, latency_ms=latency, memory_mb=memory_mb
                    )
                )
    return found


def compare_deployments(
    results: CollectedResults, ours: Deployment, theirs: Deployment, weights: np.ndarray
) -> Estimate | None:
    """Return the difference in quality of two deployments; None if they share no seed.

    Variants are paired by patient in floating point. The losses by int8 are added as independent estimates.

    Args:
        results: Results of the comparison.
        ours: First deployment.
        theirs: Second deployment, which is subtracted.
        weights: Draws of patients.
    """
    if ours.result.variant == theirs.result.variant and ours.precision == theirs.precision:
        return Estimate(0.0, 0.0, 0.0)
    parts: list[Estimate] = []
    if ours.result.variant != theirs.result.variant:
        a, b = results.pair_scores(ours.result.variant, theirs.result.variant)
        if not a:
            return None
        parts.append(estimate_difference(a, b, weights).estimate)
    if ours.precision == "int8" and ours.result.drop is not None:
        parts.append(negate_estimate(ours.result.drop))
    if theirs.precision == "int8" and theirs.result.drop is not None:
        parts.append(theirs.result.drop)
    return add_estimates(*parts) if parts else Estimate(0.0, 0.0, 0.0)


def find_pareto_front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Return the indices of the candidates on the Pareto front, from the cheapest.

    One candidate dominates another if it is at least as cheap and as good, and better in one of the two. Equal
    candidates stay together.

    Args:
        costs: Cost of each candidate; smaller is better.
        qualities: Quality of each candidate; larger is better.
    """
    order = sorted(range(len(costs)), key=lambda k: (costs[k], -qualities[k], k))
    kept: list[int] = []
    for k in order:
        last = kept[-1] if kept else None
        if last is None or qualities[k] > qualities[last] or (qualities[k], costs[k]) == (qualities[last], costs[last]):
            kept.append(k)
    return kept
