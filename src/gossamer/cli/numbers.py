"""Types of numeric options. They raise ``E-CONFIG`` with its exit status, where a validator would be a usage error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from gossamer.errors import ErrorCode, GossamerError


def _convert_number(
    convert: Callable[[str], float], what: str, example: str
) -> Callable[[Any, Sequence[Token]], float]:
    """Return a converter that raises for text that ``convert`` does not accept, and for infinite values and NaN.

    Args:
        convert: Function of the text, such as ``int``.
        what: Kind of the number, for the error.
        example: Valid number, for the error.
    """

    def convert_token(type_: Any, tokens: Sequence[Token]) -> float:
        token = tokens[0]
        try:
            number = convert(token.value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            problem = f"{token.value!r} is not a {what} number"
            raise GossamerError(ErrorCode.CONFIG, token.keyword or "number", problem, f"use a number such as {example}")
        return number

    return convert_token


Whole = Annotated[int, Parameter(converter=_convert_number(int, "whole", "3"))]
"""Whole number; 1.5 is an error and is not rounded."""
Real = Annotated[float, Parameter(converter=_convert_number(float, "finite", "20"))]
"""Finite number."""
