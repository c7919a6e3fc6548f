"""Which trial to take under the user's limits, by a rule that is written beside the answer.

The rule: of the trials within the limits and shown to beat the trivial answer, find the one of best quality; of those
that the paired interval does not tell from it, take the one of lowest latency. An interval that includes 0 is not proof
of equality: the answer says how much may be lost. One patient alone gives no interval, and nothing is recommended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.comparison.paired_tests import FEWEST, add_estimates, estimate_difference, negate_estimate
from gossamer.comparison.results import CollectedResults, VariantResult
from gossamer.evaluation.bootstrap import Estimate
from gossamer.variants import MB, PRECISIONS, CostLimits, RuntimePrecision

RULE = (
    "Of the networks within the limits whose interval is above the trivial answer, the one of best quality is found. "
    "Of those whose paired 95 % interval of the difference to it includes 0, the one of lowest median latency is "
    "recommended. Where 8 bits enter, their drop is added with its own interval. These intervals are not corrected for "
    "their number, and an interval that includes 0 does not prove that two are equal. Of one patient alone there is no "
    "interval, and nothing is recommended."
)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A variant in a precision, with what decides.

    Attributes:
        result: the variant.
        precision: PyTorch, or one of the bundles.
        quality: mean over seeds.
        latency_ms: median, of one image; None where it is not measured.
        memory_mb: peak of a fresh process; None where it is not measured.
    """

    result: VariantResult
    precision: RuntimePrecision
    quality: float
    latency_ms: float | None
    memory_mb: float | None

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.result.variant.name} in {'PyTorch' if self.precision == 'torch' else self.precision}"

    def excess(self, limits: CostLimits) -> dict[str, float]:
        """Return how many times over each limit it is: above 1 fails; infinite where it is not measured."""
        met = {"latency_ms": self.latency_ms, "memory_mb": self.memory_mb}
        asked = {name: getattr(limits, name) for name in met}
        return {
            name: math.inf if value is None else value / asked[name]
            for name, value in met.items()
            if asked[name] is not None
        }


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer.

    Attributes:
        headline: in a line.
        sentences: the reasons, and what is not known.
        chosen: the recommended trial; None where there is none.
        best: the one of best quality within the limits.
        loss: how much better ``best`` is than ``chosen``; None where they are the same.
        alike: others that are not told from ``best``, from the fastest.
    """

    headline: str
    sentences: tuple[str, ...]
    chosen: Deployment | None = None
    best: Deployment | None = None
    loss: Estimate | None = None
    alike: tuple[Deployment, ...] = ()


def list_deployments(results: CollectedResults) -> list[Deployment]:
    """Return every variant in every precision that it has, with its quality."""
    found = []
    for result in results.variants:
        for precision in PRECISIONS:
            quality = result.quality_in(precision)
            if quality is not None and not math.isnan(quality):
                latency, memory = (result.cost(name, precision).value for name in ("latency_p50", "peak_memory"))
                memory_mb = None if memory is None else memory / MB
                found.append(
                    Deployment(
                        result=result,
                        precision=precision,
                        quality=quality,
                        latency_ms=latency,
                        memory_mb=memory_mb,
                    )
                )
    return found


def recommend(results: CollectedResults) -> Recommendation:
    """Return which trial to take, or why none.

    Args:
        results: of a comparison, finished or not.
    """
    everything = list_deployments(results)
    limits = results.plan.limits
    if not everything:
        return Recommendation(headline="Nothing to recommend yet", sentences=("No trial has been trained so far.",))
    within = [c for c in everything if all(times <= 1 for times in c.excess(limits).values())]
    if not within:
        return _none_meets(everything, limits)
    if results.groups < FEWEST:
        return _without_intervals(results, within)
    weights = results.weights()
    beating = [c for c in within if _beats_trivial(c, results)]
    if not beating:
        best, said = _best_of(results, within)
        return Recommendation(
            headline="No trial is shown to beat the trivial answer",
            sentences=(said, "More data or a longer training is wanted before a network is chosen."),
            best=best,
        )
    best = max(beating, key=lambda c: (c.quality, -_latency_or_infinity(c)))
    losses = [(c, compare_deployments(results, best, c, weights)) for c in beating]
    alike = sorted(
        ((c, loss) for c, loss in losses if c is best or (loss is not None and loss.low <= 0)),
        key=lambda pair: (_latency_or_infinity(pair[0]), -pair[0].quality),
    )
    chosen, loss = alike[0]
    others = tuple(c for c, _ in alike if c is not chosen)
    sentences = _reasons_for_choice(results, chosen, best, loss if chosen is not best else None, others)
    return Recommendation(
        headline=f"Take {chosen.name}",
        sentences=(_chosen_figures(results, chosen), *sentences, *_list_unknowns(results, everything)),
        chosen=chosen,
        best=best,
        loss=None if chosen is best else loss,
        alike=others,
    )


def compare_deployments(
    results: CollectedResults, ours: Deployment, theirs: Deployment, weights: np.ndarray
) -> Estimate | None:
    """Return how much better one trial is than another; None where they share no seed.

    Variants are paired by patient in floating point. The drops to int8 are added as independent estimates.

    Args:
        results: of the comparison.
        ours: a trial.
        theirs: another.
        weights: draws of patients.
    """
    if ours.result.variant == theirs.result.variant and ours.precision == theirs.precision:
        return Estimate(0.0, 0.0, 0.0)
    parts: list[Estimate] = []
    if ours.result.variant != theirs.result.variant:
        a, b = results.shared(ours.result.variant, theirs.result.variant)
        if not a:
            return None
        parts.append(estimate_difference(a, b, weights).estimate)
    if ours.precision == "int8" and ours.result.drop is not None:
        parts.append(negate_estimate(ours.result.drop))
    if theirs.precision == "int8" and theirs.result.drop is not None:
        parts.append(theirs.result.drop)
    return add_estimates(*parts) if parts else Estimate(0.0, 0.0, 0.0)


def _beats_trivial(candidate: Deployment, results: CollectedResults) -> bool:
    quality = candidate.result.quality
    assert quality is not None
    if candidate.precision == "int8" and candidate.result.drop is not None:
        quality = add_estimates(quality, negate_estimate(candidate.result.drop))
    # Without an interval, of one patient alone, nothing is shown.
    return results.trivial is not None and quality.low > results.trivial


def _latency_or_infinity(candidate: Deployment) -> float:
    """Return what is saved by taking another: latency; unknown is dearest."""
    return math.inf if candidate.latency_ms is None else candidate.latency_ms


def _best_of(results: CollectedResults, within: Sequence[Deployment]) -> tuple[Deployment, str]:
    """Return the trial of best quality, of equal ones the fastest, and what it reaches."""
    best = max(within, key=lambda c: (c.quality, -_latency_or_infinity(c)))
    said = f"The best, {best.name}, reaches {results.label} {best.quality:.3f}"
    return best, said + ("." if results.trivial is None else f"; the trivial answer {results.trivial:.3f}.")


def _without_intervals(results: CollectedResults, within: Sequence[Deployment]) -> Recommendation:
    """Return that nothing can be shown, however long is trained: there are too few to tell chance from a difference."""
    best, said = _best_of(results, within)
    split = "validation" if results.split == "val" else str(results.split)
    return Recommendation(
        headline=f"No recommendation: {results.groups} {split} {results.unit} gives no interval",
        sentences=(
            f"{said} One {results.unit} says nothing of others, and longer training does not change that.",
            f"Put more {results.unit}s into the {split} split, ten or more where there are as many, and compare anew.",
        ),
        best=best,
    )


def _none_meets(everything: Sequence[Deployment], limits: CostLimits) -> Recommendation:
    """Return that no trial is within the limits: the nearest one, and how far each limit is."""
    nearest = min(everything, key=lambda c: max(c.excess(limits).values()))
    sentences = []
    if math.isinf(max(nearest.excess(limits).values())):
        return Recommendation(
            headline="No trial is known to meet the limits",
            sentences=("No trial has all figures measured that the limits speak of.",),
        )
    for name, label, unit in (("latency_ms", "fastest", "ms"), ("memory_mb", "smallest", "MB")):
        limit = getattr(limits, name)
        known = [c for c in everything if getattr(c, name) is not None]
        if limit is not None and known:
            least = min(known, key=lambda c: getattr(c, name))
            value = getattr(least, name)
            if value > limit:
                said = f"takes {value:.4g} {unit}, {value / limit:.2f} times the {limit:g} {unit} allowed"
                sentences.append(f"Even the {label}, {least.name}, {said}.")
            else:
                sentences.append(f"The limit of {limit:g} {unit} by itself is met by {least.name}: {value:.4g} {unit}.")
    over = [
        f"{getattr(nearest, name):.4g} {unit} where {getattr(limits, name):g} {unit} is allowed ({times:.2f} times)"
        for (name, times), unit in zip(nearest.excess(limits).items(), _limit_units(limits), strict=True)
        if times > 1
    ]
    sentences.append(f"Nearest to the limits is {nearest.name}: {' and '.join(over)}.")
    return Recommendation(headline="No trial meets the limits", sentences=tuple(sentences))


def _limit_units(limits: CostLimits) -> list[str]:
    return [unit for name, unit in (("latency_ms", "ms"), ("memory_mb", "MB")) if getattr(limits, name) is not None]


def _chosen_figures(results: CollectedResults, chosen: Deployment) -> str:
    quality = chosen.result.quality
    assert quality is not None
    said = f"{results.label} {chosen.quality:.3f}"
    if chosen.precision == "int8" and chosen.result.drop is not None:
        said += f" (in floating point {quality.value:.3f}, {quality.low:.3f} to {quality.high:.3f})"
    else:
        said += f" (95 % interval {quality.low:.3f} to {quality.high:.3f})"
    latency = "latency not measured" if chosen.latency_ms is None else f"{chosen.latency_ms:.3g} ms an image"
    memory = "memory not measured" if chosen.memory_mb is None else f"{chosen.memory_mb:.0f} MB of memory"
    return f"{said}, {latency}, {memory}."


def _reasons_for_choice(
    results: CollectedResults, chosen: Deployment, best: Deployment, loss: Estimate | None, others: Sequence[Deployment]
) -> list[str]:
    if loss is None:
        said = "It has the best quality of all trials within the limits"
        if not others:
            return [f"{said}, and every other one is told from it by its paired interval."]
        dearer = "; those that are not told from it take longer" if chosen.latency_ms is not None else ""
        reasons = [f"{said}{dearer}. The next is {others[0].name}{_latency_text(others[0])}, {others[0].quality:.3f}."]
    elif best.result.variant == chosen.result.variant and math.isclose(best.quality, chosen.quality):
        reasons = [f"{best.name} has the same quality{_latency_text(best)}."]
    else:
        reasons = [
            f"The best within the limits is {best.name}, {results.label} {best.quality:.3f}{_latency_text(best)}. The "
            f"difference, {loss.value:.3f} ({loss.low:.3f} to {loss.high:.3f}), may be chance, so that the faster one "
            f"is preferred. This does not prove them equal: up to {loss.high:.3f} may be lost."
        ]
    known = [c for c in (chosen, *others) if c.memory_mb is not None]
    if known and chosen.memory_mb is not None:
        least = min(known, key=lambda c: c.memory_mb or math.inf)
        if least is not chosen and least.memory_mb is not None and least.memory_mb < 0.9 * chosen.memory_mb:
            reasons.append(
                f"Where memory matters more, {least.name} is not told from the best either and takes "
                f"{least.memory_mb:.0f} MB ({least.quality:.3f}{_latency_text(least)})."
            )
    return reasons


def _latency_text(candidate: Deployment) -> str:
    return "" if candidate.latency_ms is None else f", {candidate.latency_ms:.3g} ms"


def _list_unknowns(results: CollectedResults, everything: Sequence[Deployment]) -> list[str]:
    """Return what the recommendation does not know."""
    said = []
    if not results.complete:
        said.append("The comparison is not finished, and this may change.")
    some = [r for r in results.variants if r.trained and len(r.trained) < len(r.trials)]
    if some:
        counts = ", ".join(f"{r.variant.name} {len(r.trained)} of {len(r.trials)}" for r in some)
        said.append(f"Not all seeds are there: {counts}.")
    unknown = [c.name for c in everything if math.isinf(max(c.excess(results.plan.limits).values(), default=0.0))]
    if unknown:
        said.append(f"Not measured, and so not considered: {', '.join(unknown)}.")
    return said
