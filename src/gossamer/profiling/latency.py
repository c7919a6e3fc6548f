"""Latency of a call after warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.profiling.cpu_contention import BUSY_SHARE, ContentionTimer
from gossamer.profiling.figure import Costs, Figure


@dataclass(frozen=True)
class Latency:
    """Wall-clock times of repeated calls, in milliseconds.

    Attributes:
        p50_ms: Median, in ms.
        p95_ms: 95th percentile, in ms.
        calls: Number of timed calls.
        waited: Share of the time for which the process was ready and no CPU was free, 0 to 1; common to all calls
            that took turns.
    """

    p50_ms: float
    p95_ms: float
    calls: int
    waited: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether other processes used the CPUs for so long that the times are upper bounds."""
        return self.waited > BUSY_SHARE

    @property
    def remark(self) -> str:
        """Remark for a figure of these times; empty on an idle machine."""
        return f"; the machine was busy ({100 * self.waited:.0f} % waited): an upper bound" if self.busy else ""

    def figures(self, conditions: str) -> Costs:
        """Return ``latency_p50`` and ``latency_p95``.

        Args:
            conditions: Engine, batch and threads of the calls, as text.
        """
        how = f"wall clock, {conditions}, {self.calls} calls after warm-up{self.remark}"
        return {
            "latency_p50": Figure(self.p50_ms, "ms", "measured", how),
            "latency_p95": Figure(self.p95_ms, "ms", "measured", how),
        }


def measure_latency(
    call: Callable[[], object], *, seconds: float = 2.0, min_calls: int = 20, max_calls: int = 500, warm_up: int = 3
) -> Latency:
    """Return the distribution of the times of a call, after a warm-up.

    Args:
        call: Function to time.
        seconds: Approximate time spent on timing, in seconds.
        min_calls: Smallest number of timed calls.
        max_calls: Largest number of timed calls.
        warm_up: Number of calls before timing.
    """
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
    """Return the distribution of the times of several calls that take turns, by their names.

    A disturbance of the machine affects all of them, so that their ratios are valid even if their times are not.

    Args:
        calls: Functions to time, by name.
        seconds: Approximate time spent on timing, in seconds.
        min_rounds: Smallest number of rounds of all calls.
        max_rounds: Largest number of rounds of all calls.
        warm_up: Number of calls of each function before timing.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin, rounds, contention = time.perf_counter(), 0, ContentionTimer()
    while rounds < min_rounds or (time.perf_counter() - begin < seconds and rounds < max_rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
        rounds += 1
    waited, found = contention.share(), {}
    for name, values in times.items():
        p50, p95 = np.percentile(values, [50, 95])
        found[name] = Latency(float(p50), float(p95), len(values), waited)
    return found
