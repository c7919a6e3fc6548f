"""Whole numbers of the command line: 1.5 is refused and not rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from gossamer.errors import ErrorCode, GossamerError


def _whole(type_: Any, tokens: Sequence[Token]) -> int:
    """Return the number that was typed.

    Raises:
        GossamerError: ``E-CONFIG`` where it is none, or not a whole one.
    """
    typed = tokens[0]
    try:
        return int(typed.value)
    except ValueError as error:
        problem = f"{typed.value!r} is not a whole number"
        raise GossamerError(ErrorCode.CONFIG, typed.keyword or "number", problem, "give one, such as 3") from error


Whole = Annotated[int, Parameter(converter=_whole)]
"""An option that counts something."""
