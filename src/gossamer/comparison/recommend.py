"""The recommendation of a comparison under the user's limits, by a rule that is printed with it.

Of the deployments within the limits that are better than the trivial answer, the one of best quality is found. Of those
that the paired interval does not distinguish from it, the fastest is recommended. An interval that includes 0 does not
prove equality: the recommendation states how much quality may be lost. A single patient gives no interval, and then
nothing is recommended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.comparison.deployments import Deployment, compare_deployments, list_deployments
from gossamer.comparison.paired_tests import FEWEST, add_estimates, negate_estimate
from gossamer.comparison.results import CollectedResults
from gossamer.evaluation.bootstrap import Estimate
from gossamer.variants import CostLimits

RULE = (
    "Of the networks within the limits whose interval is above the trivial answer, the one of best quality is found. "
    "Of those whose paired 95 % interval of the difference to it includes 0, the one of lowest median latency is "
    "recommended. The loss of quality by quantization is added with its own interval. The intervals are not corrected "
    "for their number, and an interval that includes 0 does not prove that two networks are equal. A single patient "
    "gives no interval, and then nothing is recommended."
)
LESS_MEMORY = 0.9
"""Share of the recommended network's memory below which a network with less memory is mentioned."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Recommended network and precision.

    Attributes:
        headline: Recommendation in one line.
        sentences: Reasons, and what is unknown.
        chosen: Recommended deployment; None without a recommendation.
        best: Deployment of best quality within the limits.
        loss: Quality of ``best`` minus that of ``chosen``; None if they are the same.
        tied: Other deployments that are not distinguished from ``best``, from the fastest.
    """

    headline: str
    sentences: tuple[str, ...]
    chosen: Deployment | None = None
    best: Deployment | None = None
    loss: Estimate | None = None
    tied: tuple[Deployment, ...] = ()


def recommend_deployment(results: CollectedResults) -> Recommendation:
    """Return which network to use in which precision, or why there is no recommendation.

    Args:
        results: Results of a comparison, finished or not.
    """
    deployments = list_deployments(results)
    limits = results.plan.limits
    if not deployments:
        return Recommendation(headline="Nothing to recommend yet", sentences=("No network is trained yet.",))
    within = [each for each in deployments if all(ratio <= 1 for ratio in each.limit_ratios(limits).values())]
    if not within:
        return _explain_limits(deployments, limits)
    if results.groups < FEWEST:
        return _explain_missing_intervals(results, within)
    weights = results.draw_weights()
    better = [each for each in within if _beats_trivial(each, results)]
    if not better:
        best, sentence = _describe_best(results, within)
        return Recommendation(
            headline="No network is shown to beat the trivial answer",
            sentences=(sentence, "More data or longer training is needed before a network is chosen."),
            best=best,
        )
    best = max(better, key=lambda each: (each.quality, -each.latency_or_infinity))
    losses = [(each, compare_deployments(results, best, each, weights)) for each in better]
    tied = sorted(
        ((each, loss) for each, loss in losses if each is best or (loss is not None and loss.low <= 0)),
        key=lambda pair: (pair[0].latency_or_infinity, -pair[0].quality),
    )
    chosen, loss = tied[0]
    others = tuple(each for each, _ in tied if each is not chosen)
    sentences = _explain_choice(results, chosen, best, loss if chosen is not best else None, others)
    return Recommendation(
        headline=f"Take {chosen.name}",
        sentences=(_describe_chosen(results, chosen), *sentences, *_list_unknowns(results, deployments)),
        chosen=chosen,
        best=best,
        loss=None if chosen is best else loss,
        tied=others,
    )


def _beats_trivial(deployment: Deployment, results: CollectedResults) -> bool:
    quality = deployment.result.quality
    assert quality is not None
    if deployment.precision == "int8" and deployment.result.drop is not None:
        quality = add_estimates(quality, negate_estimate(deployment.result.drop))
    return results.trivial is not None and quality.low > results.trivial


def _describe_best(results: CollectedResults, within: Sequence[Deployment]) -> tuple[Deployment, str]:
    """Return the deployment of best quality, the fastest of equal ones, with a sentence on its quality."""
    best = max(within, key=lambda each: (each.quality, -each.latency_or_infinity))
    sentence = f"The best, {best.name}, reaches {results.label} {best.quality:.3f}"
    trivial = "" if results.trivial is None else f"; the trivial answer reaches {results.trivial:.3f}"
    return best, f"{sentence}{trivial}."


def _explain_missing_intervals(results: CollectedResults, within: Sequence[Deployment]) -> Recommendation:
    """Return that a single patient cannot show a difference, however long the training is."""
    best, sentence = _describe_best(results, within)
    split = "validation" if results.split == "val" else str(results.split)
    return Recommendation(
        headline=f"No recommendation: {results.groups} {split} {results.unit} gives no interval",
        sentences=(
            f"{sentence} A single {results.unit} does not represent others, and longer training does not change that.",
            f"Put more {results.unit}s into the {split} split, ten or more if possible, and compare again.",
        ),
        best=best,
    )


def _explain_limits(deployments: Sequence[Deployment], limits: CostLimits) -> Recommendation:
    """Return that no deployment is within the limits, with the closest one and its distance to each limit."""
    closest = min(deployments, key=lambda each: max(each.limit_ratios(limits).values()))
    if math.isinf(max(closest.limit_ratios(limits).values())):
        return Recommendation(
            headline="No network is known to meet the limits",
            sentences=("No network has a measurement of every limited cost.",),
        )
    sentences = []
    for name, label, unit in (("latency_ms", "fastest", "ms"), ("memory_mb", "smallest", "MB")):
        limit = getattr(limits, name)
        known = [each for each in deployments if getattr(each, name) is not None]
        if limit is not None and known:
            least = min(known, key=lambda each: getattr(each, name))
            value = getattr(least, name)
            if value > limit:
                excess = f"needs {value:.4g} {unit}, {value / limit:.2f} times the limit of {limit:g} {unit}"
                sentences.append(f"Even the {label}, {least.name}, {excess}.")
            else:
                sentences.append(f"The limit of {limit:g} {unit} alone is met by {least.name}: {value:.4g} {unit}.")
    units = {"latency_ms": "ms", "memory_mb": "MB"}
    over = [
        f"{getattr(closest, name):.4g} {units[name]} with a limit of {getattr(limits, name):g} {units[name]} "
        f"({ratio:.2f} times)"
        for name, ratio in closest.limit_ratios(limits).items()
        if ratio > 1
    ]
    sentences.append(f"Closest to the limits is {closest.name}: {' and '.join(over)}.")
    return Recommendation(headline="No network meets the limits", sentences=tuple(sentences))


def _describe_chosen(results: CollectedResults, chosen: Deployment) -> str:
    quality = chosen.result.quality
    assert quality is not None
    text = f"{results.label} {chosen.quality:.3f}"
    if chosen.precision == "int8" and chosen.result.drop is not None:
        text += f" (in floating point {quality.value:.3f}, {quality.low:.3f} to {quality.high:.3f})"
    else:
        text += f" (95 % interval {quality.low:.3f} to {quality.high:.3f})"
    latency = "latency not measured" if chosen.latency_ms is None else f"{chosen.latency_ms:.3g} ms per image"
    memory = "memory not measured" if chosen.memory_mb is None else f"{chosen.memory_mb:.0f} MB of memory"
    return f"{text}, {latency}, {memory}."


def _explain_choice(
    results: CollectedResults, chosen: Deployment, best: Deployment, loss: Estimate | None, others: Sequence[Deployment]
) -> list[str]:
    if loss is None:
        text = "It has the best quality of all networks within the limits"
        if not others:
            return [f"{text}, and the paired interval distinguishes every other one from it."]
        slower = "; those that are not distinguished from it are slower" if chosen.latency_ms is not None else ""
        reasons = [
            f"{text}{slower}. The next is {others[0].name}{_describe_latency(others[0])}, {others[0].quality:.3f}."
        ]
    elif best.result.variant == chosen.result.variant and math.isclose(best.quality, chosen.quality):
        reasons = [f"{best.name} has the same quality{_describe_latency(best)}."]
    else:
        reasons = [
            f"The best within the limits is {best.name}, {results.label} {best.quality:.3f}{_describe_latency(best)}. "
            f"The difference, {loss.value:.3f} ({loss.low:.3f} to {loss.high:.3f}), may be due to chance, so the "
            f"faster one is preferred. This does not prove that they are equal: up to {loss.high:.3f} may be lost."
        ]
    known = [each for each in (chosen, *others) if each.memory_mb is not None]
    if known and chosen.memory_mb is not None:
        least = min(known, key=lambda each: each.memory_mb or math.inf)
        if least is not chosen and least.memory_mb is not None and least.memory_mb < LESS_MEMORY * chosen.memory_mb:
            reasons.append(
                f"If memory matters more: {least.name} is not distinguished from the best either and needs "
                f"{least.memory_mb:.0f} MB ({least.quality:.3f}{_describe_latency(least)})."
            )
    return reasons


def _describe_latency(deployment: Deployment) -> str:
    return "" if deployment.latency_ms is None else f", {deployment.latency_ms:.3g} ms"


def _list_unknowns(results: CollectedResults, deployments: Sequence[Deployment]) -> list[str]:
    """Return sentences on what the recommendation does not know."""
    sentences = []
    if not results.complete:
        sentences.append("The comparison is not finished, so the recommendation may change.")
    partial = [r for r in results.variants if r.trained and len(r.trained) < len(r.trials)]
    if partial:
        counts = ", ".join(f"{r.variant.name} {len(r.trained)} of {len(r.trials)}" for r in partial)
        sentences.append(f"Some seeds are missing: {counts}.")
    limits = results.plan.limits
    unknown = [each.name for each in deployments if math.isinf(max(each.limit_ratios(limits).values(), default=0.0))]
    if unknown:
        sentences.append(f"Not measured, and therefore not considered: {', '.join(unknown)}.")
    return sentences
