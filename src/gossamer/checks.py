"""Range checks for the fields of frozen configurations, each with one clear error.

A configuration calls these in ``__post_init__``::

    def __post_init__(self) -> None:
        require_at_least(self, 1, "depth", "widths")
        require_fraction(self, "dropout")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from gossamer.errors import ErrorCode, GossamerError


def require(holds: bool, where: str, problem: str, remedy: str) -> None:
    """Raise unless ``holds``.

    Args:
        holds: Result of the check.
        where: Field or option that was checked.
        problem: Offending value and the constraint that it breaks.
        remedy: Instruction to fix it.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if not holds:
        raise GossamerError(ErrorCode.CONFIG, where, problem, remedy)


def require_positive(config: Any, *fields: str) -> None:
    """Raise unless every field is a finite number above 0, or a tuple of such. A field of None is not checked.

    Raises:
        GossamerError: ``E-CONFIG``, naming the field.
    """
    for field, value in _numbers(config, fields):
        require(0 < value < math.inf, field, f"{value} is not positive", "use a finite number above 0")


def require_at_least(config: Any, minimum: float, *fields: str) -> None:
    """Raise unless every field is a finite number of at least ``minimum``, or a tuple of such.

    A field of None is not checked.

    Raises:
        GossamerError: ``E-CONFIG``, naming the field.
    """
    for field, value in _numbers(config, fields):
        require(minimum <= value < math.inf, field, f"{value} is less than {minimum}", f"use {minimum} or more")


def require_fraction(config: Any, *fields: str) -> None:
    """Raise unless every field is in [0, 1), or a tuple of such numbers. A field of None is not checked.

    Raises:
        GossamerError: ``E-CONFIG``, naming the field.
    """
    for field, value in _numbers(config, fields):
        require(0 <= value < 1, field, f"{value} is not in [0, 1)", "use a fraction, such as 0.1")


def _numbers(config: Any, fields: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Yield each number of the fields with the name of its field; None is skipped."""
    for field in fields:
        value = getattr(config, field)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None:
                yield field, number


def require_one_of(config: Any, field: str, allowed: Iterable[object]) -> None:
    """Raise unless a field holds one of the allowed values. A field of None is not checked.

    Raises:
        GossamerError: ``E-CONFIG``, naming the field.
    """
    value, allowed = getattr(config, field), list(allowed)
    if value is not None:
        require(value in allowed, field, f"{value!r} is not allowed", f"use one of {', '.join(map(str, allowed))}")
