"""Attention mechanisms of users: configurations from one Python file outside of the package.

What is checked here are mistakes that would show late or never: a parameter that no saved configuration holds, a name
that no folder can have or that one of our mechanisms has.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container
from pathlib import Path

from gossamer.checks import require
from gossamer.extension import load_class
from gossamer.nn.attention.base import AttentionConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RESERVED = frozenset({"name", "sha256"})
"""Keys by which JSON identifies the class."""


def load_external(
    reference: str, taken: Container[str], *, sha256: str | None = None, opened_folder: Path | None = None
) -> type[AttentionConfig]:
    """Return the configuration class that a reference such as ``./mine.py:MyConfig`` names.

    Args:
        reference: File, and class where the file defines several.
        taken: Names of our mechanisms.
        sha256: SHA-256 that the file must have (default: any).
        opened_folder: Folder whose configuration holds the reference; None for a reference that a user typed.

    Raises:
        GossamerError: The errors of ``load_class``; ``E-CONFIG`` for a class that is not a complete configuration.
    """
    kind = load_class(reference, AttentionConfig, sha256=sha256, opened_folder=opened_folder)
    require_complete(kind, taken)
    return kind


def require_complete(kind: type[AttentionConfig], taken: Container[str]) -> None:
    """Raise unless a class of a user can be saved, named and told from our mechanisms.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    where, name = kind.__name__, getattr(kind, "name", "")
    require(
        "__dataclass_params__" in vars(kind) and kind.__dataclass_params__.frozen,  # type: ignore[attr-defined]
        where,
        "is not a frozen dataclass, so its parameters would not be saved",
        "decorate it with @dataclass(frozen=True)",
    )
    require(
        _NAME.fullmatch(str(name)) is not None,
        where,
        f"its class attribute name is {name!r}, which is not a word of letters, digits and underscores",
        'add name: ClassVar[str] = "my_mechanism"',
    )
    require(name not in taken, where, f"the name {name!r} is that of a mechanism of Gossamer", "choose another name")
    reserved = _RESERVED & {field.name for field in dataclasses.fields(kind)}
    require(
        not reserved,
        where,
        f"a parameter is called {', '.join(sorted(reserved))}, which identifies the class in a saved configuration",
        "rename it",
    )
