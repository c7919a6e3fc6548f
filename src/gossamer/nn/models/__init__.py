"""Networks: one file, one network, with its presets.

``MODELS`` is the table with which JSON is read; ``PRESETS`` are the names that a user types. To add a network: one file
here, with its ``PRESETS`` and ``SMALL``, and its name in ``_FILES``; the contract tests take it from there.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gossamer import config
from gossamer.arguments import checked_arguments
from gossamer.nn.attention import AttentionLike, attention_config
from gossamer.nn.models.base import (
    AuxiliaryHead,
    InputRequirements,
    Network,
    NetworkConfig,
    Segmenter,
    SegmenterConfig,
    TrainingOutput,
)
from gossamer.nn.models.vit import ViTConfig
from gossamer.task import TaskName

_FILES = (
    "vit",
    "soft_pyramid",
    "cvt",
    "cvt_classifier",
    "apformer",
    "apformer_classifier",
    "setr",
    "transunet",
    "sadnn",
    "sadnn_classifier",
    "resnet",
    "sumnet",
    "unet",
    "monai_unet",
    "monai_swin_unetr",
)
"""Modules of this package that define a network, in the order in which they are listed."""

_MODULES = [import_module(f"{__name__}.{file}") for file in _FILES]

PRESETS: dict[str, NetworkConfig] = {name: preset for module in _MODULES for name, preset in module.PRESETS.items()}

MODELS: dict[str, type[NetworkConfig]] = {type(preset).name: type(preset) for preset in PRESETS.values()}

SMALL: dict[str, NetworkConfig] = {name: small for module in _MODULES for name, small in module.SMALL.items()}
"""Small forms of every network, for tests: one named like the network, and others where forms differ in kind."""


@checked_arguments
def list_models(pattern: str = "*", *, task: TaskName | None = None) -> list[str]:
    """Return the sorted names of the presets that match a shell pattern.

    Args:
        pattern: Shell pattern, such as ``vit_*``.
        task: ``classify`` or ``segment`` (default: both).
    """
    names = [name for name, preset in PRESETS.items() if task in (None, preset.task)]
    return sorted(fnmatch.filter(names, pattern))


def model_config(
    name: str,
    *,
    attention: AttentionLike | None = None,
    image_size: tuple[int, int] | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    **overrides: Any,
) -> NetworkConfig:
    """Return the config of a preset with the given values; arguments are those of ``create_model``.

    Raises:
        GossamerError: ``E-CONFIG``, for a name, key or value that does not exist or fit.
    """
    preset = config.find_entry(PRESETS, name, "model")
    given = {"image_size": image_size, "in_channels": in_channels, "num_classes": num_classes, **overrides}
    changes = {key: value for key, value in given.items() if value is not None}
    if attention is not None:
        changes["attention"] = attention_config(attention)
    values = {field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}
    changed = config.from_json(type(preset), {**values, **changes}, f"model {name}")
    return changed if "pooling" in changes else changed.with_supported_readout()


@checked_arguments
def create_model(
    name: str,
    *,
    attention: AttentionLike | None = None,
    image_size: tuple[int, int] | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    **overrides: Any,
) -> Network:
    """Return a network with fresh weights.

    Args:
        name: Name of a preset, one of ``list_models()``.
        attention: Name or config of the attention mechanism (default: that of the preset).
        image_size: ``(rows, columns)`` in pixels (default: that of the preset).
        in_channels: Channels of an image (default: that of the preset).
        num_classes: Number of logits (default: that of the preset).
        overrides: Values of any other field of the network's config. Without ``pooling``, the readout is that of the
            preset, or the mean of the tokens where the attention takes no class token.

    Raises:
        GossamerError: ``E-CONFIG``, for a name, key or value that does not exist or fit; ``E-UNSUPPORTED``, for an
            attention that does not fit the network.
    """
    return model_config(
        name,
        attention=attention,
        image_size=image_size,
        in_channels=in_channels,
        num_classes=num_classes,
        **overrides,
    ).build()


def config_from_json(
    data: Mapping[str, Any], where: str = "model", *, opened_folder: Path | None = None
) -> NetworkConfig:
    """Return the network config that ``gossamer.config.to_json`` wrote.

    Args:
        data: JSON values.
        where: Name of what is being read, for errors.
        opened_folder: Folder that the values were read from; None for values of this process. A file inside of it
            that an attention mechanism names is never executed.

    Raises:
        GossamerError: ``E-CONFIG``, for a name or key that does not exist; the errors of
            ``gossamer.extension.load_class`` for an attention mechanism of a user.
    """
    cls = config.find_entry(MODELS, data.get("name"), "model")
    values = dict(data)
    if values.get("attention") is not None:
        values["attention"] = attention_config(values["attention"], opened_folder=opened_folder)
    return config.from_json(cls, values, where)


__all__ = [
    "MODELS",
    "PRESETS",
    "SMALL",
    "AuxiliaryHead",
    "InputRequirements",
    "Network",
    "NetworkConfig",
    "Segmenter",
    "SegmenterConfig",
    "TrainingOutput",
    "ViTConfig",
    "config_from_json",
    "create_model",
    "list_models",
]
