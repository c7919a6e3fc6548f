"""A figure that says how it was obtained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

How = Literal["measured", "computed", "modelled", "unavailable"]


@dataclass(frozen=True)
class Figure:
    """One number of a profile.

    Attributes:
        value: the number, or None where it is unavailable.
        unit: of the value.
        how: ``measured`` on this machine, ``computed`` from equations or shapes, ``modelled`` where assumed constants
            enter, or ``unavailable``.
        detail: by which means, or why not.
    """

    value: float | None
    unit: str
    how: How
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the figure as data."""
        return {"value": self.value, "unit": self.unit, "how": self.how, "detail": self.detail}


def peak_figure(value: int | None, detail: str) -> Figure:
    """Return the bytes that a process was measured to hold at most; unavailable where the system did not tell.

    Args:
        value: bytes; None where the system does not report them.
        detail: of which process.
    """
    if value is None:
        return Figure(None, "bytes", "unavailable", "this system does not report the peak of a process")
    return Figure(value, "bytes", "measured", detail)


def format_quantity(value: float | None, unit: str) -> str:
    """Return a number with its unit, in the prefix that reads best; a dash where there is none."""
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
