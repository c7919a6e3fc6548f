"""Description of this machine: processor, threads, memory, versions. Nothing here needs torch."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

INSTRUCTION_SETS = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "i8mm", "bf16",
)  # fmt: skip
PACKAGES = (
    "gossamer", "numpy", "pillow", "tifffile", "imagecodecs", "torch", "lightning", "monai", "torchmetrics",
    "safetensors", "matplotlib", "jinja2", "onnx", "onnxruntime", "openvino",
)  # fmt: skip


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use: its affinity mask, limited by that of a container."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = container_cpu_limit()
    return affinity if limit is None else max(1, min(affinity, int(limit)))


def container_cpu_limit() -> float | None:
    """Return the number of CPUs that a control group allows; None without a limit."""
    quota = _read_text("/sys/fs/cgroup/cpu.max")
    if quota is not None:
        parts = quota.split()
        return None if parts[0] == "max" else int(parts[0]) / int(parts[1])
    quota, period = (
        _read_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        _read_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    )
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def memory_bytes() -> int | None:
    """Return the memory that this process may use: that of the machine, or the limit of a control group if smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read_text(name)
        if limit is not None and limit.isdigit():
            return int(limit) if total is None else min(total, int(limit))
    return total


def available_memory_bytes() -> int | None:
    """Return the memory that is free for this process; None if the system does not report it.

    In a control group it is the rest of its limit, where files that are only cached count as free.
    """
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", _read_text("/proc/meminfo") or "", re.MULTILINE)
    free = 1024 * int(found.group(1)) if found else None
    limit, used = _read_text("/sys/fs/cgroup/memory.max"), _read_text("/sys/fs/cgroup/memory.current")
    if limit is None or used is None or not limit.isdigit():
        return free
    cached = re.search(r"^inactive_file (\d+)$", _read_text("/sys/fs/cgroup/memory.stat") or "", re.MULTILINE)
    left = int(limit) - int(used) + (int(cached.group(1)) if cached else 0)
    return left if free is None else min(free, left)


@dataclass(frozen=True)
class ProcessMemory:
    """Resident memory of this process.

    Attributes:
        resident_bytes: Current memory.
        peak_bytes: Largest memory since the start of the process, or since ``reset_peak_memory``.
    """

    resident_bytes: int
    peak_bytes: int


def process_memory() -> ProcessMemory | None:
    """Return the memory of this process; None if the system does not report it."""
    status = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB$", _read_text("/proc/self/status") or "", re.MULTILINE))
    if len(status) < 2:
        return None
    return ProcessMemory(1024 * int(status["VmRSS"]), 1024 * int(status["VmHWM"]))


def reset_peak_memory() -> None:
    """Reset the peak memory of this process, if ``process_memory`` reports it."""
    Path("/proc/self/clear_refs").write_text("5")


def measure_peak_of_calls(call: Callable[[], object]) -> tuple[int, int]:
    """Return the peak memory of this process during two calls in bytes, and its rise above the memory before them.

    Args:
        call: Function to measure, on a system that reports the memory of a process.
    """
    before = process_memory()
    reset_peak_memory()
    for _ in range(2):
        call()
    after = process_memory()
    assert before is not None
    assert after is not None
    return after.peak_bytes, max(0, after.peak_bytes - before.resident_bytes)


@lru_cache(maxsize=1)
def processor_name() -> str:
    """Return the name of the processor as the system reports it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read_text("/proc/cpuinfo") or "", re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets of the processor that matter for speed; empty if the system does not report them."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read_text("/proc/cpuinfo") or "", re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    return tuple(name for name in INSTRUCTION_SETS if name in flags)


def has_fast_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 natively, so that mixed precision saves time."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(instruction_sets()))


def package_versions() -> dict[str, str | None]:
    """Return the version of each relevant package; None if it is not installed."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def describe_machine() -> dict[str, Any]:
    """Return the description of this machine as data."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "processor": processor_name(),
        "instruction_sets": list(instruction_sets()),
        "usable_cpus": usable_cpus(),
        "container_cpu_limit": container_cpu_limit(),
        "memory_bytes": memory_bytes(),
        "packages": package_versions(),
    }


def _read_text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None  # another system, or no control groups
