"""Honest clocks for benchmarks: one thread, CPU time, interleaved rounds, lower quartile; memory in fresh processes."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

Call = Callable[[], object]
SHORTEST_SAMPLE_S = 0.05


def interleaved(calls: dict[str, Call], *, rounds: int = 7, most_seconds: float = 60.0) -> dict[str, float]:
    """Return seconds of CPU time of each call, the lower quartile over rounds that visit all of them in turn.

    CPU time of one thread hardly sees what else the machine does, and taking turns cancels what drifts. A call that
    takes long is repeated less often, at least once after a warm-up that counts if there is time for one only.
    """
    inner, samples = {}, {}
    for name, call in calls.items():
        began = time.process_time()
        call()
        first = time.process_time() - began
        inner[name], samples[name] = max(1, math.ceil(SHORTEST_SAMPLE_S / max(first, 1e-6))), [first]
    total = sum(inner[name] * samples[name][0] for name in calls)
    repeats = max(0, min(rounds, int(most_seconds / total)))
    if repeats:
        samples = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.process_time()
            for _ in range(inner[name]):
                call()
            samples[name].append((time.process_time() - began) / inner[name])
    return {name: quartile(values) for name, values in samples.items()}


def quartile(values: list[float]) -> float:
    """Return the lower quartile."""
    return min(values) if len(values) < 4 else statistics.quantiles(values, n=4)[0]


def extra_memory(script: str, request: dict[str, object]) -> int:
    """Return bytes by which one call raises the peak of a fresh process: ``script --memory REQUEST``."""
    command = [sys.executable, script, "--memory", json.dumps(request)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rise_of_peak(call: Call) -> int:
    """Return bytes by which a call raises the resident memory of this process at its peak."""
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    call()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])
