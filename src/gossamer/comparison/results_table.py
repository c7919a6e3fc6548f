"""The table of a comparison: one line a cell and precision, units in the headings."""

from __future__ import annotations

from collections.abc import Iterator

from gossamer.comparison.cell_results import CellResult
from gossamer.comparison.folder import PRECISIONS, Precision
from gossamer.comparison.plan_file import MB
from gossamer.comparison.results import KindResult, Results

# Heading: figure, its factor, and whether it belongs to a precision.
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


def table_of(results: Results) -> list[list[str]]:
    """Return the lines, headings first. What is not known is left empty; ``state`` and ``reason`` say why.

    A precision that was not asked for has no line, nor has a bundle of a seed that none is made of.

    Args:
        results: of a comparison, finished or not.
    """
    metric = results.metric
    head = ["model", "attention", "seed", "precision", "state", "reason", metric, f"{metric}_low", f"{metric}_high"]
    head += ["int8_drop", "int8_drop_low", "int8_drop_high", "epochs", "best_epoch", "training_s", *COSTS]
    lines = [line for result in results.kinds for line in _lines(result)]
    refused = [
        _padded([each.model, each.attention or "", "", "", "refused", each.reason], len(head))
        for each in results.plan.refused
    ]
    return [head, *lines, *refused]


def _lines(result: KindResult) -> Iterator[list[str]]:
    for cell in result.cells:
        for precision in filter(cell.shows, PRECISIONS):
            yield [
                result.kind.model,
                result.kind.attention or "",
                str(cell.cell.seed),
                precision,
                *_state(cell, precision),
                *_quality(cell, precision),
                *_drop(cell, precision),
                *("" if value is None else f"{value:.6g}" for value in (cell.epochs, cell.best_epoch)),
                "" if cell.training_seconds is None else f"{cell.training_seconds:.1f}",
                *_costs(result, precision),
            ]


def _state(cell: CellResult, precision: Precision) -> tuple[str, str]:
    if cell.has(precision):
        return "done", ""
    return ("failed", cell.failed) if cell.failed else ("waiting", "")


def _quality(cell: CellResult, precision: Precision) -> list[str]:
    if cell.quality is None or not cell.has(precision):
        return [""] * 3
    if precision != "int8":
        return [_number(value) for value in (cell.quality.value, cell.quality.low, cell.quality.high)]
    # The drop is known with its interval, the metric in 8 bits without one.
    return ["" if cell.drop is None else _number(cell.quality.value - cell.drop.value), "", ""]


def _drop(cell: CellResult, precision: Precision) -> list[str]:
    if precision != "int8" or cell.drop is None:
        return [""] * 3
    return [_number(value) for value in (cell.drop.value, cell.drop.low, cell.drop.high)]


def _costs(result: KindResult, precision: Precision) -> Iterator[str]:
    for name, factor, of_precision in COSTS.values():
        value = result.cost(name, precision if of_precision else None).value
        yield "" if value is None else f"{value * factor:.10g}"


def _number(value: float) -> str:
    return "" if value != value else f"{value:.6f}"


def _padded(cells: list[str], length: int) -> list[str]:
    return cells + [""] * (length - len(cells))
