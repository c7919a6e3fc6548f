"""The page, the table and the summary of a comparison, finished or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gossamer import __version__, config
from gossamer.comparison.compare_plan import read_plan
from gossamer.comparison.deployments import Deployment
from gossamer.comparison.folder import CompareFolder
from gossamer.comparison.paired_tests import FEWEST
from gossamer.comparison.recommend import RULE, Recommendation, recommend_deployment
from gossamer.comparison.results import CollectedResults, VariantResult, collect_results
from gossamer.comparison.results_table import build_table
from gossamer.comparison.runner import format_duration
from gossamer.comparison.tasks import TASKS
from gossamer.evaluation.bootstrap import RESAMPLES, Estimate
from gossamer.files import write_json, write_text
from gossamer.inference.decisions import to_csv
from gossamer.profiling.figure import Figure
from gossamer.report import comparison_figures
from gossamer.report.figures import to_svg
from gossamer.report.page import PageOrigin, render_page, shorten_paths, show_path, show_value
from gossamer.variants import MB, PRECISION_NAMES, RuntimePrecision

_COST_COLUMNS = {"file": ("File", "MB"), "latency_p50": ("Median latency", "ms"), "peak_memory": ("Peak memory", "MB")}
"""Heading and unit of each cost that is shown in every precision."""
MOST_OPTIONS = 300
"""Number of characters of an option that are shown."""


def write_results(folder: CompareFolder) -> CollectedResults:
    """Write ``results.csv``, ``summary.json`` and ``report.html`` of a comparison, finished or not.

    Args:
        folder: Folder of the comparison, with its plan.

    Raises:
        GossamerError: The plan is missing or damaged, or a file cannot be written.
    """
    results = collect_results(folder, read_plan(folder.plan_path))
    recommendation = recommend_deployment(results)
    write_text(folder.table_path, to_csv(build_table(results)))
    write_json(folder.summary_path, summarize_results(results, recommendation))
    write_text(folder.report_path, render_comparison(results, recommendation))
    return results


def summarize_results(results: CollectedResults, recommendation: Recommendation) -> dict[str, Any]:
    """Return the content of the page as data."""
    r = recommendation
    return {
        "gossamer": __version__,
        "complete": results.complete,
        "plan": results.plan.to_json(),
        "metric": results.metric,
        "split": results.split,
        "samples": results.samples,
        "groups": results.groups,
        "interval": f"95 % percentile bootstrap over {results.groups} groups, {RESAMPLES} resamples, mean over seeds"
        if results.groups >= FEWEST
        else None,
        "comparisons": results.comparisons,
        "trivial": results.trivial,
        "recommendation": {
            "headline": r.headline,
            "sentences": list(r.sentences),
            "rule": RULE,
            "chosen": _deployment_data(r.chosen),
            "best": _deployment_data(r.best),
            "loss": None if r.loss is None else r.loss.to_json(),
            "alike": [_deployment_data(deployment) for deployment in r.tied],
        },
        "kinds": [_variant_data(result) for result in results.variants],
        "notes": list(results.notes),
    }


def render_comparison(results: CollectedResults, recommendation: Recommendation) -> str:
    """Return the report of a comparison as one HTML page that needs no other file."""
    trained = [result for result in results.variants if result.quality is not None]
    drawn = [cost for cost in comparison_figures.COSTS if any(comparison_figures.points_of(results, cost).values())]
    drawings = [comparison_figures.plot_qualities] if trained else []
    drawings += [comparison_figures.plot_differences] if any(result.versus is not None for result in trained) else []
    grown = any(result.costs is not None and len(result.costs.growth) > 1 for result in results.variants)
    return render_page(
        "comparison.html.j2",
        PageOrigin(command=shorten_paths(results.plan.command)),
        r=results,
        plan=results.plan,
        task=TASKS[results.plan.data.task],
        data=show_path(results.plan.data.source),
        recommendation=recommendation,
        rule=RULE,
        resamples=RESAMPLES,
        rows=[_quality_row(result) for result in results.variants],
        costs=[_cost_row(result, results.plan.precisions) for result in results.variants],
        hows=_list_methods(results),
        headings=[f"{label}, {unit}" for label, unit in _COST_COLUMNS.values()],
        precisions=[PRECISION_NAMES[precision] for precision in results.plan.precisions],
        in_8_bits="int8" in results.plan.precisions or bool(results.int8_seeds),
        intervals=[to_svg(draw(results)) for draw in drawings],
        fewest=FEWEST,
        fronts=[to_svg(comparison_figures.plot_pareto_front(results, cost)) for cost in drawn],
        energy=_missing_energy_reason(results),
        growth=[to_svg(comparison_figures.plot_growth(results, name)) for name in ("macs", "latency") if grown],
        failed=_list_failures(results),
        permutations=max((result.versus.permutations for result in results.variants if result.versus), default=0),
        options=[(name, show_value(value)[:MOST_OPTIONS]) for name, value in results.plan.to_json()["options"].items()],
        interval=_format_interval,
        duration=_format_duration,
        signed=_format_difference,
        chance=_format_p_value,
    )


def _quality_row(result: VariantResult) -> dict[str, Any]:
    """Return the quality of a variant as a row of a table."""
    versus, drop = result.versus, result.drop
    seconds = result.training_seconds
    return {
        "number": result.number,
        "name": result.variant.name,
        "state": result.state,
        "quality": result.quality,
        "seeds": [
            (trial.trial.seed, None if trial.quality is None else trial.quality.value) for trial in result.trials
        ],
        "versus": versus,
        "baseline": result.baseline is None and result.variant.attention is not None,
        "drop": drop,
        "seconds": seconds,
        "epochs": sorted({trial.epochs for trial in result.trained if trial.epochs is not None}),
    }


def _cost_row(result: VariantResult, precisions: Sequence[RuntimePrecision]) -> dict[str, Any]:
    """Return the costs of a variant as a row of a table."""
    return {
        "number": result.number,
        "name": result.variant.name,
        "network": [_format_figure(result.cost(name)) for name in ("parameters", "macs")],
        "precisions": {
            name: [_format_figure(result.cost(name, precision)) for precision in precisions] for name in _COST_COLUMNS
        },
    }


def _format_figure(figure: Figure) -> dict[str, str]:
    """Return a figure as a cell of a table: its number in the unit of the column, and its source."""
    value = figure.value
    if value is None:
        return {"text": "–", "how": figure.how, "detail": figure.detail}
    if figure.unit == "bytes":
        text = f"{value / MB:.3g}" if value < 100 * MB else f"{value / MB:.0f}"
    elif figure.unit == "ms":
        text = f"{value:.2f}" if value < 100 else f"{value:.0f}"
    else:
        text = f"{value / 1e6:,.2f}"
    return {"text": text, "how": figure.how, "detail": figure.detail}


def _list_methods(results: CollectedResults) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the sources of each column of costs, each with one example of its detail."""
    named = {
        "Parameters": ("parameters", None),
        "MACs": ("macs", None),
        **{
            f"{label}, {comparison_figures.SHOWN[precision][0]}": (name, precision)
            for name, (label, _) in _COST_COLUMNS.items()
            for precision in results.plan.precisions
        },
    }
    rows = []
    for label, (name, precision) in named.items():
        figures = [result.cost(name, precision) for result in results.variants if result.costs is not None]
        ways: dict[str, str] = {}
        for figure in figures:
            ways.setdefault(figure.how, figure.detail)
        if ways:
            rows.append((label, list(ways.items())))
    return rows


def _list_failures(results: CollectedResults) -> list[tuple[str, list[int], str]]:
    """Return what failed: the variant, the seeds and the reason; seeds with the same reason are grouped."""
    found: dict[tuple[str, str], list[int]] = {}
    for result in results.variants:
        for trial in result.trials:
            if trial.failed:
                found.setdefault((result.variant.name, trial.failed), []).append(trial.trial.seed)
    return [(name, seeds, reason) for (name, reason), seeds in found.items()]


def _missing_energy_reason(results: CollectedResults) -> str | None:
    """Return why energy is missing; None if it is known, or nothing is measured yet."""
    measured = [result for result in results.variants if result.costs is not None]
    figures = [result.cost("energy", precision) for result in measured for precision in results.plan.precisions]
    return None if not figures or any(f.value is not None for f in figures) else figures[0].detail


def _variant_data(result: VariantResult) -> dict[str, Any]:
    versus = result.versus
    return {
        "number": result.number,
        **config.to_json(result.variant),
        "state": result.state,
        "quality": None if result.quality is None else result.quality.to_json(),
        "int8_drop": None if result.drop is None else result.drop.to_json(),
        "versus_twin": None
        if versus is None
        else {
            **versus.estimate.to_json(),
            "seeds": list(versus.seeds),
            "p": versus.p,
            "p_holm": versus.p_holm,
            "permutations": versus.permutations,
        },
        "training_seconds": result.training_seconds,
        "exponents": result.exponents(),
        "measured": None if result.costs is None else result.costs.to_json(),
        "cells": [
            {
                "seed": trial.trial.seed,
                "state": trial.state,
                "stages": list(trial.stages),
                "failed": trial.failed,
                "quality": None if trial.quality is None else trial.quality.to_json(),
                "int8_drop": None if trial.drop is None else trial.drop.to_json(),
                "epochs": trial.epochs,
                "best_epoch": trial.best_epoch,
                "training_seconds": trial.training_seconds,
            }
            for trial in result.trials
        ],
    }


def _deployment_data(deployment: Deployment | None) -> dict[str, Any] | None:
    if deployment is None:
        return None
    return {
        **config.to_json(deployment.result.variant),
        "precision": deployment.precision,
        "quality": deployment.quality,
        "latency_ms": deployment.latency_ms,
        "memory_mb": deployment.memory_mb,
    }


def _format_interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if math.isnan(estimate.low):
        return "no interval"
    return f"{estimate.low:.3f} – {estimate.high:.3f}"


def _format_duration(seconds: float) -> str:
    return format_duration(seconds) if seconds < 120 else f"{seconds / 60:.1f} min"


def _format_difference(value: float) -> str:
    """Return a difference with its sign, with a typographic minus."""
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _format_p_value(p: float | None) -> str:
    """Return a p-value, which is never shown as 0."""
    if p is None or math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
