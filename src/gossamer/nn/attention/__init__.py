"""Attention mechanisms: one file, one mechanism, one paper.

``MECHANISMS`` is the table that names, JSON and the command line are read with. To add a mechanism: one file here and
one line in the table; the contract tests, the cost test, the docs and the benchmark take it from there.
"""

from __future__ import annotations

import json
from typing import Any

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention.adaptive import AdaptiveConfig
from gossamer.nn.attention.base import Attention, AttentionConfig
from gossamer.nn.attention.key_value import KeyValueConfig, KeyValuePosConfig
from gossamer.nn.attention.local import LocalConfig
from gossamer.nn.attention.sequence_norm import SequenceNormConfig
from gossamer.nn.attention.sima import SimAConfig
from gossamer.nn.attention.soft import SoftConfig, SoftNormConfig
from gossamer.nn.attention.softmax import SoftmaxConfig

MECHANISMS: dict[str, type[AttentionConfig]] = {
    SoftmaxConfig.name: SoftmaxConfig,
    SimAConfig.name: SimAConfig,
    SequenceNormConfig.name: SequenceNormConfig,
    SoftConfig.name: SoftConfig,
    SoftNormConfig.name: SoftNormConfig,
    KeyValueConfig.name: KeyValueConfig,
    KeyValuePosConfig.name: KeyValuePosConfig,
    LocalConfig.name: LocalConfig,
    AdaptiveConfig.name: AdaptiveConfig,
}


def attention_config(value: str | AttentionConfig | dict[str, Any]) -> AttentionConfig:
    """Return the config that a name, a JSON object (as a mapping or as text) or a config describes.

    Raises:
        GossamerError: ``E-CONFIG``, for text that is no JSON, or a name or a key that does not exist.
    """
    if isinstance(value, AttentionConfig):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = dict(json.loads(value))
        except ValueError as error:
            remedy = """write it like '{"name": "soft", "inverse": "cholesky"}'"""
            raise GossamerError(ErrorCode.CONFIG, "attention", f"is no JSON: {error}", remedy) from error
    data = {"name": value} if isinstance(value, str) else value
    kind = config.find_entry(MECHANISMS, data.get("name"), "attention")
    return config.from_json(kind, data, f"attention {kind.name}")


__all__ = [
    "MECHANISMS",
    "AdaptiveConfig",
    "Attention",
    "AttentionConfig",
    "KeyValueConfig",
    "KeyValuePosConfig",
    "LocalConfig",
    "SequenceNormConfig",
    "SimAConfig",
    "SoftConfig",
    "SoftNormConfig",
    "SoftmaxConfig",
    "attention_config",
]
