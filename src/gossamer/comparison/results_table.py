"""The table of a comparison as CSV: one line for each trial and precision, with units in the headings."""

from __future__ import annotations

from collections.abc import Iterator

from gossamer.comparison.results import CollectedResults, VariantResult
from gossamer.comparison.trial_results import TrialResult
from gossamer.variants import MB, PRECISIONS, RuntimePrecision, Variant

COSTS: dict[str, tuple[str, float, bool]] = {
    "parameters": ("parameters", 1.0, False),
    "macs": ("macs", 1.0, False),
    "exponentials": ("exponentials", 1.0, False),
    "train_step_ms": ("train_step", 1.0, False),
    "train_memory_mb": ("train_memory", 1 / MB, False),
    "file_mb": ("file", 1 / MB, True),
    "latency_p50_ms": ("latency_p50", 1.0, True),
    "latency_p95_ms": ("latency_p95", 1.0, True),
    "peak_memory_mb": ("peak_memory", 1 / MB, True),
    "energy_j": ("energy", 1.0, True),
}
"""Heading of each cost: name of the figure, factor of its unit, and whether it differs between precisions."""


def build_table(results: CollectedResults) -> list[list[str]]:
    """Return the lines of the table, headings first.

    An unknown value is an empty cell; the columns ``state`` and ``reason`` tell why. A precision that was not requested
    and a bundle of a seed without bundles have no line.

    Args:
        results: Results of a comparison, finished or not.
    """
    metric = results.metric
    head = ["model", "attention", "seed", "precision", "state", "reason", metric, f"{metric}_low", f"{metric}_high"]
    head += ["int8_drop", "int8_drop_low", "int8_drop_high", "epochs", "best_epoch", "training_s", *COSTS]
    lines = [line for result in results.variants for line in _variant_lines(result)]
    refused = [
        _pad_line([each.model, _mechanism_cell(each.variant), "", "", "refused", each.reason], len(head))
        for each in results.plan.refused
    ]
    return [head, *lines, *refused]


def _mechanism_cell(variant: Variant) -> str:
    return "" if variant.attention is None else variant.mechanism_name


def _variant_lines(result: VariantResult) -> Iterator[list[str]]:
    for trial in result.trials:
        for precision in filter(trial.lists, PRECISIONS):
            yield [
                result.variant.model,
                _mechanism_cell(result.variant),
                str(trial.trial.seed),
                precision,
                *_state_values(trial, precision),
                *_quality_values(trial, precision),
                *_drop_values(trial, precision),
                *("" if value is None else f"{value:.6g}" for value in (trial.epochs, trial.best_epoch)),
                "" if trial.training_seconds is None else f"{trial.training_seconds:.1f}",
                *_cost_values(result, precision),
            ]


def _state_values(trial: TrialResult, precision: RuntimePrecision) -> tuple[str, str]:
    if trial.has(precision):
        return "done", ""
    return ("failed", trial.failed) if trial.failed else ("waiting", "")


def _quality_values(trial: TrialResult, precision: RuntimePrecision) -> list[str]:
    if trial.quality is None or not trial.has(precision):
        return [""] * 3
    if precision != "int8":
        return [_format_number(value) for value in (trial.quality.value, trial.quality.low, trial.quality.high)]
    # The loss by int8 has an interval; the metric in int8 does not.
    return ["" if trial.drop is None else _format_number(trial.quality.value - trial.drop.value), "", ""]


def _drop_values(trial: TrialResult, precision: RuntimePrecision) -> list[str]:
    if precision != "int8" or trial.drop is None:
        return [""] * 3
    return [_format_number(value) for value in (trial.drop.value, trial.drop.low, trial.drop.high)]


def _cost_values(result: VariantResult, precision: RuntimePrecision) -> Iterator[str]:
    for name, factor, by_precision in COSTS.values():
        value = result.cost(name, precision if by_precision else None).value
        yield "" if value is None else f"{value * factor:.10g}"


def _format_number(value: float) -> str:
    return "" if value != value else f"{value:.6f}"


def _pad_line(cells: list[str], length: int) -> list[str]:
    return cells + [""] * (length - len(cells))
