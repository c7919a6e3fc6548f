"""Typed results that show themselves: as text in a terminal, as a table in a notebook, as data in JSON.

A result of the API inherits ``Result`` and defines its tables once. The command line prints the same tables::

    @dataclass(frozen=True, repr=False)
    class Latency(Result):
        median_ms: float

        def to_dict(self) -> dict[str, Any]:
            return {"median_ms": self.median_ms}

        def summary_tables(self) -> tuple[SummaryTable, ...]:
            return (SummaryTable("latency", ("figure", "value"), (("median", f"{self.median_ms:.1f} ms"),)),)
"""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def list_some(names: Sequence[str], limit: int = 4) -> str:
    """Return names in words, such as ``a, b and 3 more``.

    Args:
        names: Names to list.
        limit: Number of names that are listed before the rest is counted.
    """
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class SummaryTable:
    """A small table for people. Columns of numbers are aligned to the right; without headings, all columns to the left.

    Attributes:
        title: Line above the table; empty for none.
        headings: Heading of each column; empty strings hide the row of headings.
        rows: Cells of each row, as many as there are headings.
        caption: Lines below the table; empty for none.
        text_columns: Numbers of the columns that are aligned to the left, from 0 (default: the first).
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    text_columns: tuple[int, ...] = (0,)

    def is_text(self, column: int) -> bool:
        """Return whether a column, counted from 0, is aligned to the left."""
        return column in self.text_columns or not any(self.headings)

    def to_text(self) -> str:
        """Return the table as plain text with aligned columns."""
        shown = [self.headings, *self.rows] if any(self.headings) else list(self.rows)
        widths = [max(len(row[column]) for row in shown) for column in range(len(self.headings))] if shown else []
        lines = [self.title] if self.title else []
        for row in shown:
            cells = [
                cell.ljust(width) if self.is_text(column) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *([self.caption] if self.caption else [])])

    def to_html(self) -> str:
        """Return the table as HTML without styles; every cell is escaped."""
        title = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in self.headings)
        head = f"<thead><tr>{head}</tr></thead>" if any(self.headings) else ""
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        caption = f"<p>{html.escape(self.caption)}</p>" if self.caption else ""
        return f"<table>{title}{head}<tbody>{body}</tbody></table>{caption}"


class Result(ABC):
    """A result of the API. Dataclasses that inherit it are declared with ``repr=False``."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the result as values that JSON can hold; the same that ``--json`` prints."""

    @abstractmethod
    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the tables that show the result to people."""

    def __repr__(self) -> str:
        return "\n\n".join(table.to_text() for table in self.summary_tables())

    def _repr_html_(self) -> str:
        return "".join(table.to_html() for table in self.summary_tables())
