"""What a verb returns, and what verbs share: their common options, and what they show while they work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from gossamer.errors import ErrorCode, GossamerError


@dataclass(frozen=True)
class Answer:
    """The result of a verb.

    Attributes:
        data: what ``--json`` prints.
        text: what is printed without it; anything that rich can print.
        exit_status: of the command.
    """

    data: Any
    text: Any = None
    exit_status: int = 0


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options that every verb has.

    Attributes:
        json: print one JSON object on standard output, and nothing else there.
        debug: show the trace of an error.
    """

    json: Annotated[bool, Parameter(negative="", show_default=False)] = False
    debug: Annotated[bool, Parameter(negative="", show_default=False)] = False


def parse_size(text: str | None, option: str = "--image-size") -> tuple[int, int] | None:
    """Return ``(rows, columns)`` of ``HxW``, or of one number for a square.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise GossamerError(ErrorCode.CONFIG, option, f"{text!r} is not HxW", "write rows x columns, such as 224x224")
    return int(parts[0]), int(parts[-1])


def require_torch(verb: str) -> None:
    """Raise unless the packages of the extra ``train`` are there.

    Raises:
        GossamerError: ``E-CODEC``, with the pip command.
    """
    from importlib.util import find_spec

    missing = [
        name
        for name in ("torch", "lightning", "monai", "torchmetrics", "matplotlib", "jinja2")
        if find_spec(name) is None
    ]
    if missing:
        problem = f"needs {', '.join(missing)}, which the base installation leaves out"
        raise GossamerError(ErrorCode.CODEC, f"gossamer {verb}", problem, 'pip install "gossamer[train]"')


MANY_THREADS = 64
"""Up to this many threads are allowed on any machine, so that a run can be repeated that a larger one has made."""
THREADS_PER_CPU = 4


def usable_threads(threads: int | None, processes: int = 1) -> int:
    """Return how many threads to use: as many as asked, or all usable processors, shared by the processes.

    Raises:
        GossamerError: ``E-CONFIG`` for a number below 1, or so far above the processors that threads only wait.
    """
    from gossamer.profiling.machine import usable_cpus

    cpus = usable_cpus()
    most = max(MANY_THREADS, THREADS_PER_CPU * cpus)
    if threads is not None and threads < 1:
        raise GossamerError(ErrorCode.CONFIG, "--threads", f"{threads} is less than 1", "use 1 or more")
    if threads is not None and threads > most:
        problem = f"{threads} is more than {most}, the most on a machine where {cpus} processors may be used"
        raise GossamerError(ErrorCode.CONFIG, "--threads", problem, f"use {cpus}, or leave it out")
    return threads or max(1, cpus // processes)


def set_threads(threads: int | None, processes: int = 1) -> int:
    """Set how many threads torch uses, and return that number, which ``usable_threads`` says.

    Raises:
        GossamerError: ``E-CONFIG``, of ``usable_threads``.
    """
    import torch

    count = usable_threads(threads, processes)
    torch.set_num_threads(count)
    return count


def say(text: str) -> None:
    """Print a line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of done and total that draws a bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
