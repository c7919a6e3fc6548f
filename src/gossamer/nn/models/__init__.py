"""Networks: one file, one network, its presets beside it.

``MODELS`` is the table that JSON is read with; ``PRESETS`` are the names that a user types. To add a network: one file
here, one line in the table.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer import config
from gossamer.nn.attention import AttentionLike, attention_config
from gossamer.nn.models import (
    apformer,
    apformer_classifier,
    cvt,
    cvt_classifier,
    monai_swin_unetr,
    monai_unet,
    resnet,
    sadnn,
    sadnn_classifier,
    setr,
    soft_pyramid,
    sumnet,
    transunet,
    unet,
    vit,
)
from gossamer.nn.models.apformer import APFormerConfig
from gossamer.nn.models.apformer_classifier import APFormerClassifierConfig
from gossamer.nn.models.base import (
    AuxiliaryHead,
    InputRequirements,
    Network,
    NetworkConfig,
    Segmenter,
    SegmenterConfig,
    TrainingOutput,
)
from gossamer.nn.models.cvt import CvTConfig
from gossamer.nn.models.cvt_classifier import CvTClassifierConfig
from gossamer.nn.models.monai_swin_unetr import MonaiSwinUNETRConfig
from gossamer.nn.models.monai_unet import MonaiUNetConfig
from gossamer.nn.models.resnet import ResNetConfig
from gossamer.nn.models.sadnn import SaDNNConfig
from gossamer.nn.models.sadnn_classifier import SaDNNClassifierConfig
from gossamer.nn.models.setr import SETRConfig
from gossamer.nn.models.soft_pyramid import SoftPyramidConfig
from gossamer.nn.models.sumnet import SUMNetConfig
from gossamer.nn.models.transunet import TransUNetConfig
from gossamer.nn.models.unet import UNetConfig
from gossamer.nn.models.vit import ViTConfig
from gossamer.task import TaskName

MODELS: dict[str, type[NetworkConfig]] = {
    ViTConfig.name: ViTConfig,
    SoftPyramidConfig.name: SoftPyramidConfig,
    CvTConfig.name: CvTConfig,
    CvTClassifierConfig.name: CvTClassifierConfig,
    APFormerConfig.name: APFormerConfig,
    APFormerClassifierConfig.name: APFormerClassifierConfig,
    SETRConfig.name: SETRConfig,
    TransUNetConfig.name: TransUNetConfig,
    SaDNNConfig.name: SaDNNConfig,
    SaDNNClassifierConfig.name: SaDNNClassifierConfig,
    ResNetConfig.name: ResNetConfig,
    SUMNetConfig.name: SUMNetConfig,
    UNetConfig.name: UNetConfig,
    MonaiUNetConfig.name: MonaiUNetConfig,
    MonaiSwinUNETRConfig.name: MonaiSwinUNETRConfig,
}

PRESETS: dict[str, NetworkConfig] = {
    **vit.PRESETS,
    **soft_pyramid.PRESETS,
    **cvt.PRESETS,
    **cvt_classifier.PRESETS,
    **apformer.PRESETS,
    **apformer_classifier.PRESETS,
    **setr.PRESETS,
    **transunet.PRESETS,
    **sadnn.PRESETS,
    **sadnn_classifier.PRESETS,
    **resnet.PRESETS,
    **sumnet.PRESETS,
    **unet.PRESETS,
    **monai_unet.PRESETS,
    **monai_swin_unetr.PRESETS,
}


def list_models(pattern: str = "*", *, task: TaskName | None = None) -> list[str]:
    """Return the names of the presets that match a shell pattern, sorted.

    Args:
        pattern: a shell pattern.
        task: ``classify`` or ``segment``; both if left out.
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
    """Return the config of a preset with the given values changed. Arguments are those of ``create_model``.

    Raises:
        GossamerError: ``E-CONFIG``, for a name, key or value that does not exist or fit.
    """
    preset = config.find_entry(PRESETS, name, "model")
    given = {"image_size": image_size, "in_channels": in_channels, "num_classes": num_classes, **overrides}
    changes = {key: value for key, value in given.items() if value is not None}
    if attention is not None:
        changes["attention"] = attention_config(attention)
    values = {field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}
    made = config.from_json(type(preset), {**values, **changes}, f"model {name}")
    return made if "pooling" in changes else made.fitted()


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
        name: a preset, one of ``list_models()``.
        attention: name or config of the mechanism; the preset's own if left out.
        image_size: ``(rows, columns)`` in pixels.
        in_channels: channels of an image.
        num_classes: number of logits.
        overrides: any other field of the network's config. A readout that is left out is the preset's, or the mean
            of the tokens where the attention takes no class token.

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
    kind = config.find_entry(MODELS, data.get("name"), "model")
    values = dict(data)
    if values.get("attention") is not None:
        values["attention"] = attention_config(values["attention"], opened_folder=opened_folder)
    return config.from_json(kind, values, where)


__all__ = [
    "MODELS",
    "PRESETS",
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
