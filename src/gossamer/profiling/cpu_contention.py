"""CPU contention: the share of time for which this process was ready to run but other processes had the CPUs.

A time that was measured under contention is too long.
"""

from __future__ import annotations

import time
from pathlib import Path

BUSY_SHARE = 0.1
"""Share of waiting time above which a measured latency is only an upper bound."""
_TASKS = "/proc/self/task"


class ContentionTimer:
    """Measures how long the threads of this process wait for a CPU, from its creation on."""

    def __init__(self) -> None:
        self._delays = _read_delays()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def share(self) -> float:
        """Return the time spent waiting over the time spent waiting or running, 0 to 1.

        The system reports how long each thread waited. If it does not, the excess of wall-clock time over CPU time
        counts as waiting, which overlooks a second thread: timed calls never sleep in all threads at once.
        """
        ran, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        before, now = self._delays, _read_delays()
        if before and now:
            waited = sum(now[thread] - before.get(thread, 0.0) for thread in now)
        else:
            waited = max(0.0, wall - ran)
        return min(1.0, max(0.0, waited / max(waited + ran, 1e-9)))


def _read_delays() -> dict[str, float]:
    """Return the seconds that each thread of this process has waited for a CPU; empty if they are not reported."""
    found: dict[str, float] = {}
    try:
        for task in Path(_TASKS).iterdir():
            found[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return {}  # another system, or a thread that has just ended
    return found
