"""A ``Progress`` that remembers what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gossamer.progress import Update


class RecordedProgress:
    """Messages in order, and the calls of every label."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: dict[str, list[tuple[int, int]]] = {}

    def show_message(self, text: str) -> None:
        """Remember the text."""
        self.messages.append(text)

    @contextmanager
    def track_steps(self, label: str) -> Iterator[Update]:
        """Yield a function that remembers its arguments."""
        calls = self.steps.setdefault(label, [])
        yield lambda done, total: calls.append((done, total))
