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
