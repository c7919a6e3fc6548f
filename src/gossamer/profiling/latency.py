"""How long one call takes, once everything is warm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.profiling.cpu_contention import BUSY_SHARE, ContentionTimer


@dataclass(frozen=True)
class Latency:
    """Wall-clock times of repeated calls, in milliseconds.

    Attributes:
        p50_ms: median.
        p95_ms: 95th percentile.
        calls: how many were timed.
        waited: share of the time for which the process was ready and no processor was free; of all calls together
            where several took turns.
    """

    p50_ms: float
    p95_ms: float
    calls: int
    waited: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether others had the machine for so long that the times are upper bounds."""
        return self.waited > BUSY_SHARE

    @property
    def remark(self) -> str:
        """What a figure of these times has to say besides; empty on a quiet machine."""
        return f"; the machine was busy ({100 * self.waited:.0f} % waited): an upper bound" if self.busy else ""


def measure_latency(
    call: Callable[[], object], *, seconds: float = 2.0, min_calls: int = 20, max_calls: int = 500, warm_up: int = 3
) -> Latency:
    """Call ``call`` for about ``seconds`` after a warm-up, and return the distribution of its times."""
    found = measure_latencies({"": call}, seconds=seconds, min_rounds=min_calls, max_rounds=max_calls, warm_up=warm_up)
    return found[""]


def measure_latencies(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 3.0,
    min_rounds: int = 15,
    max_rounds: int = 300,
    warm_up: int = 3,
) -> dict[str, Latency]:
    """Call each of ``calls`` in turn, again and again, and return the distribution of the times of each by its name.

    What disturbs the machine for a while disturbs all of them, so that their ratios hold where their times do not.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin, rounds, waiting = time.perf_counter(), 0, ContentionTimer()
    while rounds < min_rounds or (time.perf_counter() - begin < seconds and rounds < max_rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
        rounds += 1
    waited, found = waiting.share(), {}
    for name, values in times.items():
        p50, p95 = np.percentile(values, [50, 95])
        found[name] = Latency(float(p50), float(p95), len(values), waited)
    return found
