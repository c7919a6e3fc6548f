"""Figures that state how they were obtained, with the one table of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Method = Literal["measured", "computed", "modelled", "unavailable"]

FIGURE_LABELS: dict[str, str] = {
    "open": "Time to open the bundle",
    "file": "Size of the network's file",
    "parameters": "Parameters",
    "weights": "Weights",
    "macs": "Multiply-accumulates",
    "macs_closed_form": "Multiply-accumulates, closed form",
    "exponentials": "Exponentials",
    "pruned_queries": "Pruned query tokens (share)",
    "macs_executed": "Multiply-accumulates after pruning",
    "latency_p50": "Latency, median",
    "latency_p95": "Latency, 95th percentile",
    "peak_memory": "Peak memory of the process",
    "forward_memory": "Memory of a forward pass",
    "peak_memory_forecast": "Peak memory of the process, estimated",
    "forward_memory_forecast": "Memory of a forward pass, estimated",
    "energy": "Energy of a call",
    "energy_modelled": "Energy of a call, modelled",
    "train_step": "Training step, median",
    "train_memory": "Peak memory of a training process",
    "train_step_memory": "Memory of training",
    "train_step_memory_forecast": "Memory of training, estimated",
}
"""Label of each figure in tables and pages, in their order."""


@dataclass(frozen=True)
class Figure:
    """One number of a profile.

    Attributes:
        value: The number; None if it is unavailable.
        unit: Unit of the value.
        how: ``measured`` on this machine, ``computed`` from equations or shapes, ``modelled`` with assumed constants,
            or ``unavailable``.
        detail: Means by which it was obtained, or the reason why it is unavailable.
    """

    value: float | None
    unit: str
    how: Method
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the figure as data."""
        return {"value": self.value, "unit": self.unit, "how": self.how, "detail": self.detail}

    def __str__(self) -> str:
        return format_quantity(self.value, self.unit)


Costs = dict[str, Figure]
"""Figures of a network by their names in ``FIGURE_LABELS``."""


def costs_to_json(costs: Mapping[str, Figure]) -> dict[str, Any]:
    """Return figures as data."""
    return {name: figure.to_json() for name, figure in costs.items()}


def peak_figure(value: int | None, detail: str) -> Figure:
    """Return the measured peak memory of a process.

    Args:
        value: Number of bytes; None if the system does not report them.
        detail: Description of the process.
    """
    if value is None:
        return Figure(None, "bytes", "unavailable", "this system does not report the peak memory of a process")
    return Figure(value, "bytes", "measured", detail)


def format_quantity(value: float | None, unit: str) -> str:
    """Return a number with its unit, in the prefix that reads best; a dash for None."""
    if value is None:
        return "–"
    if unit == "bytes":
        return f"{value / 2**20:,.1f} MiB"
    if unit == "ms":
        return f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"
    if unit == "J":
        return f"{1e3 * value:.3g} mJ" if value < 1 else f"{value:.3g} J"
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3f} {prefix}"
    return f"{value:g}"
