"""Configs of networks as JSON, those of version 0.1.0 included, and what a config says about its network."""

from __future__ import annotations

import json
from typing import Any

import pytest

import gossamer
from expected_errors import expect_error
from gossamer import config
from gossamer.nn.attention import MECHANISMS, KeyValueConfig, SoftmaxConfig
from gossamer.nn.models import MODELS, PRESETS, NetworkConfig, ViTConfig, config_from_json
from gossamer.nn.models.unet import UNetConfig

OLD_UNET: dict[str, Any] = {
    "name": "unet", "image_size": [64, 64], "in_channels": 1, "num_classes": 3, "width": 16,
}  # fmt: skip
OLD_VIT: dict[str, Any] = {
    "name": "vit", "image_size": [32, 32], "in_channels": 1, "num_classes": 2, "patch_size": 8, "stem": "convolutional",
    "dim": 128, "depth": 6, "num_heads": 4, "mlp_ratio": 4.0, "attention": {"name": "kv"}, "pooling": "class_token",
    "dropout": 0.0, "drop_path": 0.1, "layer_scale": None,
}  # fmt: skip
"""Written by version 0.1.0, whose convolutional networks had no key for attention."""


@pytest.mark.parametrize("stored", [OLD_UNET, OLD_UNET | {"attention": None}])
def test_opens_convolutional_config_of_0_1_0(stored: dict[str, Any]) -> None:
    found = config_from_json(json.loads(json.dumps(stored)))
    assert found == UNetConfig(image_size=(64, 64), in_channels=1, num_classes=3, width=16)
    assert found.attention is None
    assert not found.has_attention()


def test_opens_attention_config_of_0_1_0() -> None:
    found = config_from_json(json.loads(json.dumps(OLD_VIT)))
    assert isinstance(found, ViTConfig)
    assert found.attention == KeyValueConfig()
    assert (found.dim, found.depth, found.num_heads, found.drop_path, found.stem) == (128, 6, 4, 0.1, "convolutional")
    assert config.to_json(found).keys() == OLD_VIT.keys()


def test_refuses_attention_in_convolutional_json() -> None:
    with expect_error("attention", "unet"):
        config_from_json({**OLD_UNET, "attention": {"name": "softmax"}})
    with expect_error("attention", "unet"):
        UNetConfig(attention=SoftmaxConfig())
    with expect_error("attention", "unet"):
        gossamer.create_model("unet", attention="kv")


def test_refuses_a_transformer_without_attention() -> None:
    with expect_error("model", "attention"):
        config_from_json({**OLD_VIT, "attention": None})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_json(name: str) -> None:
    preset = PRESETS[name]
    assert config_from_json(json.loads(json.dumps(config.to_json(preset)))) == preset
    assert preset.has_attention() == (preset.attention is not None)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_target_shape_is_one_class_an_image_or_a_pixel(name: str) -> None:
    preset: NetworkConfig = next(preset for preset in PRESETS.values() if preset.name == name)
    wanted = (5, *preset.image_size) if preset.task == "segment" else (5,)
    assert preset.target_shape(5) == wanted


def test_mechanisms_are_exchanged_in_every_transformer() -> None:
    attending = [name for name in PRESETS if PRESETS[name].has_attention() and "small" in name]
    assert len(attending) > 10
    for name in attending:
        for mechanism in MECHANISMS:
            assert gossamer.nn.models.model_config(name, attention=mechanism).attention == MECHANISMS[mechanism]()
