"""Frozen dataclasses to JSON and back.

A configuration is a value: keyword-only, frozen, and checked when it is made. Where a field may hold one of several
classes (the attention of a network, the steps of a preprocessing), each class has a ``name``, which is written with its
fields and looked up in the table of its package.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from gossamer.errors import ErrorCode, GossamerError

Config = TypeVar("Config")

_LONGEST = 60
"""Largest number of characters of a value in a message."""


def to_json(config: Any) -> Any:
    """Return a dataclass as plain JSON values; what identifies its class is written first.

    That is the class attribute ``name``, or what the class method ``json_header`` returns.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        named: dict[str, Any] = {}
        if hasattr(type(config), "json_header"):
            named = type(config).json_header()  # type: ignore[attr-defined]
        elif isinstance(name := getattr(type(config), "name", None), str):
            named = {"name": name}
        fields = {field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return named | fields
    if isinstance(config, Mapping):
        return {str(key): to_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_json(value) for value in config]
    return config


def from_json(cls: type[Config], data: Any, where: str) -> Config:
    """Return the dataclass that ``data`` describes.

    Args:
        cls: Dataclass to make.
        data: JSON values of the fields; missing fields get their defaults.
        where: Source of the data, for the error.

    Raises:
        GossamerError: ``E-CONFIG``, naming the key that is unknown, missing or of the wrong type.
    """
    from pydantic import ValidationError

    if not isinstance(data, Mapping):
        raise GossamerError(
            ErrorCode.CONFIG, where, f"expected a mapping, got {type(data).__name__}", "write keys and values"
        )
    data = {key: value for key, value in data.items() if key != "name"}
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise GossamerError(ErrorCode.CONFIG, where, f"unknown key {key!r}", suggest_nearest(str(key), known))
    try:
        return _type_adapter(cls).validate_python(data)
    except ValidationError as error:
        problem, remedy = _describe_fault(cls, error.errors()[0])
        raise GossamerError(ErrorCode.CONFIG, where, problem, remedy) from error


def find_entry(table: Mapping[str, Config], name: object, what: str) -> Config:
    """Return ``table[name]``.

    Raises:
        GossamerError: ``E-CONFIG``, with the nearest names of the table.
    """
    if not isinstance(name, str) or name not in table:
        raise GossamerError(ErrorCode.CONFIG, what, f"there is no {what} {name!r}", suggest_nearest(str(name), table))
    return table[name]


def suggest_nearest(word: str, known: Iterable[str]) -> str:
    """Return the remedy for a misspelt word: the nearest known ones, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"


def _describe_fault(cls: type, fault: Mapping[str, Any]) -> tuple[str, str]:
    """Return a fault that pydantic found in a short sentence, and its remedy."""
    key = ".".join(str(part) for part in fault["loc"]) or cls.__name__
    if fault["type"] == "missing":
        return f"{key} is missing", "add it"
    given = f"{key} {_shorten_value(fault['input'])}"
    if fault["type"] == "literal_error":
        return (
            f"{given} is not known",
            f"use one of {fault['ctx']['expected'].replace(' or ', ', ').replace(chr(39), '')}",
        )
    # For a part of a field, the type of the whole field says little.
    annotation = next((field.type for field in dataclasses.fields(cls) if fault["loc"] == (field.name,)), None)
    remedy = f"give {annotation}" if isinstance(annotation, str) else "correct the value"
    return f"{given}: {fault['msg']}", remedy


def _shorten_value(value: object) -> str:
    """Return ``value`` as Python code, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


@cache
def _type_adapter(cls: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)
