"""``gossamer doctor``: what this machine offers."""

from __future__ import annotations

import os
from typing import Any

from gossamer.cli.output import Answer, Common
from gossamer.profiling.machine import PACKAGES, describe_machine, has_fast_bfloat16

_EXTRAS = {"imagecodecs": "tiff"}


def doctor(*, common: Common = Common()) -> Answer:
    """Say what this machine offers, what is missing, and how to get it.

    Example: gossamer doctor --json

    Args:
        common: options of every verb.
    """
    found = describe_machine()
    advice = _advice(found)
    return Answer({**found, "advice": advice}, _text(found, advice))


def _advice(found: dict[str, Any]) -> list[str]:
    advice = []
    missing = [name for name in PACKAGES if found["packages"][name] is None]
    for extra in sorted({_EXTRAS.get(name, "train") for name in missing}):
        names = [name for name in missing if _EXTRAS.get(name, "train") == extra]
        advice.append(f'missing {", ".join(names)}: pip install "gossamer[{extra}]"')
    limit = found["container_cpu_limit"]
    if limit is not None and limit < (os.cpu_count() or 1):
        advice.append(
            f"a container grants {limit:g} of {os.cpu_count()} processors; Gossamer uses {found['usable_cpus']} threads"
        )
    if not has_fast_bfloat16():
        advice.append("this processor has no native bfloat16, so training multiplies in float32")
    if found["memory_bytes"] is not None and found["memory_bytes"] < 4 * 2**30:
        advice.append(
            f"{found['memory_bytes'] / 2**30:.1f} GiB of memory are few: keep --batch-size and --image-size small"
        )
    return advice


def _text(found: dict[str, Any], advice: list[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    memory, limit = found["memory_bytes"], found["container_cpu_limit"]
    table.add_row("system", found["system"])
    table.add_row("python", found["python"])
    table.add_row("processor", found["processor"])
    table.add_row("instructions", ", ".join(found["instruction_sets"]) or "the system does not say")
    table.add_row(
        "threads", f"{found['usable_cpus']} usable, container limit {'none' if limit is None else f'{limit:g}'}"
    )
    table.add_row("memory", "unknown" if memory is None else f"{memory / 2**30:.1f} GiB")
    for name, version in found["packages"].items():
        table.add_row(name, version or "not installed")
    for line in advice or ["nothing is missing"]:
        table.add_row("advice", line)
    return table
