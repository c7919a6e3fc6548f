"""Which candidates nobody beats in both quality and cost (Pareto's optimum)."""

from __future__ import annotations

from collections.abc import Sequence


def find_pareto_front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Return the places of the candidates that no other one beats, from the cheapest.

    One beats another that is at least as cheap and as good, and better in one of the two; of equals both stay.

    Args:
        costs: smaller is better.
        qualities: larger is better.
    """
    order = sorted(range(len(costs)), key=lambda k: (costs[k], -qualities[k], k))
    kept: list[int] = []
    for k in order:
        last = kept[-1] if kept else None
        if last is None or qualities[k] > qualities[last] or (qualities[k], costs[k]) == (qualities[last], costs[last]):
            kept.append(k)
    return kept
