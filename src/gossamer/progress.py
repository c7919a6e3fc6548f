"""How a long-running function tells its caller what it does.

A function of the library takes a ``Progress`` and is silent by default. The command line and
notebooks pass one that draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Update = Callable[[int, int], None]
"""A function of the number of steps done and their total."""


class Progress(Protocol):
    """Receiver of messages and of the progress of steps."""

    def show_message(self, text: str) -> None:
        """Show one line of text."""
        ...

    def track_steps(self, label: str) -> AbstractContextManager[Update]:
        """Return a context that yields the function to call after each step.

        Args:
            label: Short description of the steps, for example ``reading images``.
        """
        ...


class SilentProgress:
    """A ``Progress`` that shows nothing: the default of every function."""

    def show_message(self, text: str) -> None:
        """Ignore the text."""

    @contextmanager
    def track_steps(self, label: str) -> Iterator[Update]:
        """Yield a function that does nothing."""
        yield lambda done, total: None


SILENT = SilentProgress()
