"""The law of the drop that 8 bits may cost, which every verb that quantizes holds to. Nothing here needs torch."""

from __future__ import annotations

import math

from gossamer.errors import ErrorCode, GossamerError


def require_drop(max_drop: float) -> None:
    """Raise unless a metric can drop by so much.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if not 0 <= max_drop < math.inf:
        problem = f"{max_drop} is no drop, a number from 0 on is wanted"
        raise GossamerError(ErrorCode.CONFIG, "--max-drop", problem, "use 0.005")
