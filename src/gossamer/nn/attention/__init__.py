"""Attention mechanisms: one file, one mechanism, one paper.

``MECHANISMS`` is the table with which names, JSON and the command line are read. To add a mechanism: one file here and
its name in ``_FILES``; the contract tests, the cost test, the docs and the benchmark take it from there. A mechanism
outside of the package needs no change here: ``attention_config("./mine.py:MyConfig")``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError
from gossamer.extension import find_subclasses, is_reference
from gossamer.nn.attention.adaptive import AdaptiveConfig
from gossamer.nn.attention.base import Attention, AttentionConfig
from gossamer.nn.attention.external import load_external, require_complete
from gossamer.nn.attention.key_value import KeyValueConfig, KeyValuePosConfig
from gossamer.nn.attention.local import LocalConfig
from gossamer.nn.attention.sequence_norm import SequenceNormConfig
from gossamer.nn.attention.sima import SimAConfig
from gossamer.nn.attention.soft import SoftConfig, SoftNormConfig
from gossamer.nn.attention.softmax import SoftmaxConfig

_FILES = ("softmax", "sima", "sequence_norm", "soft", "key_value", "local", "adaptive")
"""Modules of this package that define mechanisms, in the order in which they are listed."""

MECHANISMS: dict[str, type[AttentionConfig]] = {
    kind.name: kind for file in _FILES for kind in find_subclasses(import_module(f"{__name__}.{file}"), AttentionConfig)
}

AttentionLike = str | AttentionConfig | type[AttentionConfig] | dict[str, Any]
"""What describes a mechanism: a name, a reference ``FILE.py:CLASS``, JSON as text or mapping, a config or its class."""


def attention_config(value: AttentionLike, *, opened_folder: Path | None = None) -> AttentionConfig:
    """Return the config of a mechanism.

    Args:
        value: Name of a mechanism, reference to a class in a file such as ``./mine.py:MyConfig``, JSON object (as a
            mapping or as text) with either as ``name`` and with parameters, config, or class of a config.
        opened_folder: Folder from whose configuration ``value`` was read; None for a value that a user gave. A file
            inside of that folder is never executed.

    Raises:
        GossamerError: ``E-CONFIG``, for text that is not JSON, or a name or a key that does not exist; the errors of
            ``gossamer.extension.load_class`` for a reference.
    """
    if isinstance(value, AttentionConfig):
        _require_known(type(value))
        return value
    if isinstance(value, type):
        _require_known(value)
        return config.from_json(value, {}, f"attention {value.__name__}")
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = dict(json.loads(value))
        except ValueError as error:
            remedy = """write it like '{"name": "soft", "inverse": "cholesky"}'"""
            raise GossamerError(ErrorCode.CONFIG, "attention", f"is not JSON: {error}", remedy) from error
    if not isinstance(value, str | Mapping):
        remedy = "give a name, a JSON object with a name, or a config"
        raise GossamerError(ErrorCode.CONFIG, "attention", f"{value!r} is not a mechanism", remedy)
    data = {"name": value} if isinstance(value, str) else dict(value)
    name = data.get("name")
    if isinstance(name, str) and is_reference(name):
        sha256 = data.pop("sha256", None)
        kind = load_external(name, MECHANISMS, sha256=sha256, opened_folder=opened_folder)
    else:
        kind = config.find_entry(MECHANISMS, name, "attention")
    return config.from_json(kind, data, f"attention {kind.name}")


def attention_text(value: AttentionLike) -> str:
    """Return a text from which ``attention_config`` gives the same mechanism later, in any working folder.

    A name without parameters stays as it is. A reference to a file becomes JSON with its absolute path and SHA-256, so
    that a file that has changed is noticed.

    Raises:
        GossamerError: The errors of ``attention_config``; ``E-UNSUPPORTED`` for a config that no file defines.
    """
    described = attention_config(value)
    if isinstance(value, str) and type(described) in MECHANISMS.values():
        return value
    if type(described) in MECHANISMS.values() and described == type(described)():
        return described.name
    fields = {field.name: field.default for field in dataclasses.fields(described)}
    given = {name: getattr(described, name) for name, default in fields.items()}
    given = {name: value for name, value in given.items() if value != fields[name]}
    return json.dumps(described.json_header() | config.to_json(given))


def _require_known(kind: type) -> None:
    """Raise unless a class is one of our configs, or a complete config of a user.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if not issubclass(kind, AttentionConfig):
        raise GossamerError(
            ErrorCode.CONFIG, "attention", f"{kind.__name__} is not an AttentionConfig", "inherit AttentionConfig"
        )
    if kind not in MECHANISMS.values():
        require_complete(kind, MECHANISMS)


__all__ = [
    "MECHANISMS",
    "AdaptiveConfig",
    "Attention",
    "AttentionConfig",
    "AttentionLike",
    "KeyValueConfig",
    "KeyValuePosConfig",
    "LocalConfig",
    "SequenceNormConfig",
    "SimAConfig",
    "SoftConfig",
    "SoftNormConfig",
    "SoftmaxConfig",
    "attention_config",
    "attention_text",
]
