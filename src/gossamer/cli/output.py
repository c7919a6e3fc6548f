"""What a verb returns and prints, and the options that every verb has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import replace_nonfinite
from gossamer.summary import SummaryTable


@dataclass(frozen=True)
class Answer:
    """Output of a verb that is not a ``Result``, or that sets the exit status.

    Attributes:
        data: Object that ``--json`` prints.
        text: Output without ``--json``: tables of a ``Result``, or anything that rich can print (default: nothing).
        exit_status: Exit status of the command (default: 0).
    """

    data: Any
    text: Any = None
    exit_status: int = 0


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options that every verb has.

    Attributes:
        json: Print one JSON object on standard output and nothing else there.
        debug: Show the traceback of an error.
    """

    json: Annotated[bool, Parameter(negative="", show_default=False)] = False
    debug: Annotated[bool, Parameter(negative="", show_default=False)] = False


def print_answer(answer: Answer, *, as_json: bool) -> None:
    """Print the output of a verb on standard output.

    Args:
        answer: Output of the verb.
        as_json: Whether to print ``data`` as one line of JSON rather than ``text``.
    """
    if as_json:
        print(json.dumps(replace_nonfinite(answer.data), allow_nan=False))
        return
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=not terminal)
    if isinstance(answer.text, tuple) and not terminal:
        print("\n\n".join(table.to_text() for table in answer.text))  # a pipe has no width to wrap at
    elif isinstance(answer.text, tuple):
        for number, table in enumerate(answer.text):
            shown = rich_table(table) if table.headings else Text(table.to_text())
            console.print(*([""] if number else []), shown, sep="\n")
    elif answer.text is not None:
        console.print(answer.text)


def rich_table(table: SummaryTable) -> Table:
    """Return a table as rich draws it; cells are shown as they are, without markup."""
    drawn = Table(
        title=Text(table.title) if table.title else None,
        caption=Text(table.caption) if table.caption else None,
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
        show_header=any(table.headings),
    )
    for number, heading in enumerate(table.headings):
        drawn.add_column(Text(heading), justify="left" if table.is_text(number) else "right")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn


def print_input_errors(errors: Iterable[tuple[Path, GossamerError]]) -> int:
    """Print the error of each input that could not be used, and return the exit status of the command."""
    status = 0
    for _, error in errors:
        print_message(f"gossamer: {error}")
        status = ErrorCode.FORMAT.exit_status
    return status


def print_message(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)
