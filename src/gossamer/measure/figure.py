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
