"""Numbers of the command line: what is none, 1.5 where whole ones count, or not finite is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from gossamer.errors import ErrorCode, GossamerError


def _number(convert: Callable[[str], float], what: str, example: str) -> Callable[[Any, Sequence[Token]], float]:
    """Return a converter that refuses what ``convert`` does not take or takes for no finite number."""

    def read(type_: Any, tokens: Sequence[Token]) -> float:
        typed = tokens[0]
        try:
            number = convert(typed.value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            problem = f"{typed.value!r} is not a {what} number"
            raise GossamerError(ErrorCode.CONFIG, typed.keyword or "number", problem, f"give one, such as {example}")
        return number

    return read


Whole = Annotated[int, Parameter(converter=_number(int, "whole", "3"))]
"""An option that counts something: 1.5 is refused and not rounded."""
Real = Annotated[float, Parameter(converter=_number(float, "finite", "20"))]
"""An option that measures something."""
