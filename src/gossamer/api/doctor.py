"""``gossamer.check_environment``: this machine, the installed packages, and advice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gossamer.errors import install_hint
from gossamer.profiling.machine import PACKAGES, describe_machine, has_fast_bfloat16
from gossamer.summary import Result, SummaryTable

SMALL_MEMORY_BYTES = 4 * 2**30
_EXTRAS = {"imagecodecs": "tiff", "openvino": "openvino"}


@dataclass(frozen=True, repr=False)
class EnvironmentReport(Result):
    """What this machine offers.

    Attributes:
        machine: System, processor, memory and versions of packages.
        advice: Missing packages and limits, each with what to do.
    """

    machine: Mapping[str, Any]
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the machine and the advice as data."""
        return {**self.machine, "advice": list(self.advice)}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the machine, the packages and the advice as one table."""
        found = self.machine
        memory, limit = found["memory_bytes"], found["container_cpu_limit"]
        container = "no container limit" if limit is None else f"container limit {limit:g}"
        rows = (
            ("system", found["system"]),
            ("python", found["python"]),
            ("processor", found["processor"]),
            ("instructions", ", ".join(found["instruction_sets"]) or "not reported by the system"),
            ("threads", f"{found['usable_cpus']} usable, {container}"),
            ("memory", "unknown" if memory is None else f"{memory / 2**30:.1f} GiB"),
            *((name, version or "not installed") for name, version in found["packages"].items()),
            *(("advice", line) for line in self.advice or ("nothing is missing",)),
        )
        return (SummaryTable("", ("", ""), rows),)


def check_environment() -> EnvironmentReport:
    """Check the hardware of this machine and the installed packages."""
    found = describe_machine()
    missing = [name for name in PACKAGES if found["packages"][name] is None]
    advice = []
    for extra in sorted({_EXTRAS.get(name, "train") for name in missing}):
        names = [name for name in missing if _EXTRAS.get(name, "train") == extra]
        advice.append(f"missing {', '.join(names)}: {install_hint(extra)}")
    limit, memory = found["container_cpu_limit"], found["memory_bytes"]
    if limit is not None and limit < (os.cpu_count() or 1):
        shares = f"{limit:g} of {os.cpu_count()} CPUs"
        advice.append(f"the container is limited to {shares}; Gossamer uses {found['usable_cpus']} threads")
    if not has_fast_bfloat16():
        advice.append("this processor has no native bfloat16; training multiplies in float32")
    if memory is not None and memory < SMALL_MEMORY_BYTES:
        advice.append(f"only {memory / 2**30:.1f} GiB of memory; use a small batch size and image size")
    return EnvironmentReport(found, tuple(advice))
