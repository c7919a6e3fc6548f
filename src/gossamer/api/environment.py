"""What a function of the API checks before its work: installed packages and the number of threads.

Nothing here needs torch, unless its number of threads is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from gossamer.errors import ErrorCode, GossamerError, install_hint
from gossamer.profiling.machine import usable_cpus

TRAINING_PACKAGES = ("torch", "lightning", "monai", "matplotlib", "jinja2")
MANY_THREADS = 64
"""Allowed number of threads on any machine, so that a run of a larger machine can be repeated on a smaller one."""
THREADS_PER_CPU = 4


def require_training_packages(verb: str) -> None:
    """Raise unless the packages of the extra ``train`` are installed.

    Args:
        verb: Name of the function or of the command that needs them.

    Raises:
        GossamerError: ``E-CODEC``, with the command that installs them.
    """
    missing = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    if missing:
        problem = f"{', '.join(missing)} must be installed and is not part of the base installation"
        raise GossamerError(ErrorCode.CODEC, f"gossamer {verb}", problem, install_hint("train"))


def choose_threads(threads: int | None, processes: int = 1) -> int:
    """Return the number of CPU threads to use.

    Args:
        threads: Number of threads, 1 or more (default: all usable CPUs, shared by the processes).
        processes: Number of processes that share the CPUs.

    Raises:
        GossamerError: ``E-CONFIG`` for a number below 1, or so far above the CPUs that threads would only wait.
    """
    cpus = usable_cpus()
    most = max(MANY_THREADS, THREADS_PER_CPU * cpus)
    if threads is not None and threads < 1:
        raise GossamerError(ErrorCode.CONFIG, "threads", f"{threads} is less than 1", "use 1 or more")
    if threads is not None and threads > most:
        problem = f"{threads} is more than {most}, the maximum on a machine with {cpus} usable CPUs"
        raise GossamerError(ErrorCode.CONFIG, "threads", problem, f"use {cpus}, or omit it")
    return threads or max(1, cpus // processes)


def set_torch_threads(threads: int | None, processes: int = 1) -> int:
    """Set the number of threads of torch, and return it.

    Args:
        threads: Number of threads, 1 or more (default: all usable CPUs, shared by the processes).
        processes: Number of processes that share the CPUs.

    Raises:
        GossamerError: ``E-CONFIG`` for a number that ``choose_threads`` refuses.
    """
    import torch

    count = choose_threads(threads, processes)
    torch.set_num_threads(count)
    return count


@contextmanager
def torch_threads(threads: int | None, processes: int = 1) -> Iterator[int]:
    """Use a number of threads in torch for the block, and yield it; torch's own number is restored afterwards.

    Args:
        threads: Number of threads, 1 or more (default: all usable CPUs, shared by the processes).
        processes: Number of processes that share the CPUs.

    Raises:
        GossamerError: ``E-CONFIG`` for a number that ``choose_threads`` refuses.
    """
    import torch

    before = torch.get_num_threads()
    count = set_torch_threads(threads, processes)
    try:
        yield count
    finally:
        torch.set_num_threads(before)
