"""Numbers of the command line: what is none, infinite or not a number is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from gossamer.errors import ErrorCode, GossamerError


def _real(type_: Any, tokens: Sequence[Token]) -> float:
    """Return the number that was typed.

    Raises:
        GossamerError: ``E-CONFIG`` where it is none, or not a finite one.
    """
    typed = tokens[0]
    try:
        number = float(typed.value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        problem = f"{typed.value!r} is not a finite number"
        raise GossamerError(ErrorCode.CONFIG, typed.keyword or "number", problem, "give one, such as 20")
    return number


Real = Annotated[float, Parameter(converter=_real)]
"""An option that measures something."""
