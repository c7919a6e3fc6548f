"""Whether a process got the processor whenever it was ready to run: a time that was measured otherwise is too long."""

from __future__ import annotations

import time
from pathlib import Path

BUSY_SHARE = 0.1
"""Share of the time that was waited for a processor, above which a measured latency is an upper bound."""
_TASKS = "/proc/self/task"


class ContentionTimer:
    """The time that the threads of this process are kept from a processor, from the moment that this is made."""

    def __init__(self) -> None:
        self._delays = _delays()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def share(self) -> float:
        """Return the time waited so far over that and the time run, 0 to 1.

        The system tells how long each thread stood in line. Where it does not, what the wall clock took beyond the
        processor's counts as waited, which overlooks a second thread: calls that are timed never sleep all at once.
        """
        ran, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        before, now = self._delays, _delays()
        if before and now:
            waited = sum(now[thread] - before.get(thread, 0.0) for thread in now)
        else:
            waited = max(0.0, wall - ran)
        return min(1.0, max(0.0, waited / max(waited + ran, 1e-9)))


def _delays() -> dict[str, float]:
    """Return the seconds that each thread of this process has waited for a processor; empty where nothing tells."""
    found: dict[str, float] = {}
    try:
        for task in Path(_TASKS).iterdir():
            found[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return {}  # another system, or a thread that has just ended
    return found
