"""Arguments of public functions: one error for a value of a wrong type, and sizes as text or numbers."""

from __future__ import annotations

import errno
import functools
import inspect
import numbers
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from gossamer.checks import require
from gossamer.errors import ErrorCode, GossamerError

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

_TYPE_NAMES = {
    str: "text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    type(None): "None",
}


def checked_arguments(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Return a function that raises ``E-CONFIG`` for an argument of a type that its annotation does not allow.

    Collections are checked, their items are not. An argument whose annotation cannot be checked is accepted, and
    a name that the signature lacks stays Python's ``TypeError``.
    """
    signature = inspect.signature(function)
    hints = functools.cache(lambda: get_type_hints(function))

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # raises it with the name of the function
        for name, value in given.items():
            if signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
                _require_type(name, value, hints().get(name, Any))
        return function(*args, **kwargs)

    return call


def _require_type(name: str, value: object, hint: Any) -> None:
    allowed = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    if not any(_is_of_type(value, kind) for kind in allowed):
        words = [word for kind in allowed for word in _name_type(kind)]
        given = repr(value) if len(repr(value)) <= 60 else type(value).__name__
        raise GossamerError(ErrorCode.CONFIG, name, f"{given} is not allowed", f"use {' or '.join(words)}")
    if Path in allowed and isinstance(value, str | Path):
        _require_path(name, value)


def _require_path(name: str, value: str | Path) -> None:
    """Raise if no file can have this path."""
    require(value != "", name, "the path is empty", "name a file or a folder")
    try:
        os.lstat(value)
    except ValueError:
        require(False, name, f"{str(value)!r} is not a path", "omit characters that no file name contains")
    except OSError as error:
        require(error.errno != errno.ENAMETOOLONG, name, "the path is too long", "use a shorter one")


def _is_of_type(value: object, kind: Any) -> bool:
    """Return whether a value has a type; True where that cannot be decided."""
    if get_origin(kind) is Literal:
        return any(value is one or (value == one and type(value) is type(one)) for one in get_args(kind))
    kind = get_origin(kind) or kind
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    try:
        return isinstance(value, (tuple, list) if kind is tuple else kind)
    except TypeError:  # Any, or a protocol of methods
        return True


def _name_type(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    kind = get_origin(kind) or kind
    return [_TYPE_NAMES.get(kind, f"a {kind.__name__}")]


def parse_size(value: str | Sequence[int] | None, where: str = "image_size") -> tuple[int, int] | None:
    """Return ``(rows, columns)`` of a tuple, of text such as ``224x192``, or of one number for a square.

    Args:
        value: The size; None is returned as it is.
        where: Name of the parameter, for the error.

    Raises:
        GossamerError: ``E-CONFIG`` for anything else, or for sides below 1.
    """
    if value is None:
        return None
    sides = value if isinstance(value, tuple | list) else str(value).lower().split("x")
    parts = [str(side) for side in sides]
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        problem = f"{value!r} is not a size"
        raise GossamerError(ErrorCode.CONFIG, where, problem, "write rows x columns, such as 224x224")
    return int(parts[0]), int(parts[-1])
