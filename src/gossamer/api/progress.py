"""Progress for people: a bar on a terminal or in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from gossamer.checks import require
from gossamer.progress import SILENT, Progress, Update


class LineProgress:
    """A ``Progress`` that prints messages as lines on standard error and draws no bars."""

    def show_message(self, text: str) -> None:
        """Print the text."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    @contextmanager
    def track_steps(self, label: str) -> Iterator[Update]:
        """Yield a function that prints nothing: in a log, a line for each step would hide the messages."""
        yield lambda done, total: None


class BarProgress(LineProgress):
    """A ``Progress`` that draws a bar with the time left, on a terminal or in a notebook.

    Args:
        notebook: Whether the bar is drawn in a notebook's output cell rather than on standard error.
    """

    def __init__(self, *, notebook: bool = False) -> None:
        self._notebook = notebook

    def show_message(self, text: str) -> None:
        """Print the text, in a notebook into the output cell."""
        if self._notebook:
            sys.stdout.write(f"{text}\n")
        else:
            super().show_message(text)

    @contextmanager
    def track_steps(self, label: str) -> Iterator[Update]:
        """Yield a function that moves the bar; the bar disappears at the end."""
        console = Console(force_jupyter=True) if self._notebook else Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bars(*columns, console=console, transient=True) as bars:
            task = bars.add_task(label, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)


def choose_progress(value: bool | Progress | None = None) -> Progress:
    """Return the ``Progress`` that an argument of the API stands for.

    Args:
        value: None or False for silence; True for a bar in a notebook or on a terminal, and lines elsewhere; or an
            object with the methods of ``Progress`` (default: None).
    """
    if value is None or value is False:
        return SILENT
    if value is not True:
        fits = hasattr(value, "show_message") and hasattr(value, "track_steps")
        require(fits, "progress", f"{value!r} is not allowed", "use True, or an object like gossamer.progress.Progress")
        return value
    if is_notebook():
        return BarProgress(notebook=True)
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def is_notebook() -> bool:
    """Return whether the code runs in a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
