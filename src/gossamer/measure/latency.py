"""How long one call takes, once everything is warm."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Wall-clock times of repeated calls, in milliseconds.

    Attributes:
        p50_ms: median.
        p95_ms: 95th percentile.
        calls: how many were timed.
    """

    p50_ms: float
    p95_ms: float
    calls: int


def time_calls(
    call: Callable[[], object], *, seconds: float = 2.0, min_calls: int = 20, max_calls: int = 500
) -> Latency:
    """Call ``call`` for about ``seconds`` after a warm-up, and return the distribution of its times."""
    for _ in range(3):
        call()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < min_calls or (time.perf_counter() - begin < seconds and len(times) < max_calls):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(float(p50), float(p95), len(times))
