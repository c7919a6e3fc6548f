"""Vision Transformers with the names of timm, and DeiT, whose code is derived from it.

ViT: Dosovitskiy et al., arXiv 2010.11929; DeiT: Touvron et al., arXiv 2012.12877; DeiT III, with a scale of the
branches and without a position of the class token: arXiv 2204.07118. LayerNorm has eps 1e-6 and GELU is exact, as in
ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gossamer.nn.models.vit import ViTConfig
from gossamer.pretrained.family import (
    HEADS,
    TensorRule,
    TensorRules,
    Tensors,
    WeightFamily,
    axis_length,
    layer_rules,
    square_grid,
)

DISTILLED = "the readout of the distillation token"
WITHOUT_DISTILLATION = "ours has one prefix token; results differ from the published ones until it is trained further"
_POSITIONS = "pos_embed"


def _read_fields(tensors: Tensors, preset: ViTConfig, image_size: tuple[int, int] | None) -> dict[str, Any]:
    found = vit_fields(
        tensors, preset, image_size, _POSITIONS, "patch_embed.proj.weight", "head.weight", _count_prefix_tokens(tensors)
    )
    return found | ({"layer_scale": 1.0} if "blocks.0.ls1.gamma" in tensors else {})


def vit_fields(
    tensors: Tensors,
    preset: ViTConfig,
    image_size: tuple[int, int] | None,
    positions: str,
    patches: str,
    classifier: str,
    prefix: int,
) -> dict[str, Any]:
    """Return the fields that the tensors of a Vision Transformer determine.

    Args:
        tensors: Tensors of the file.
        preset: Preset that the file is matched with.
        image_size: Requested size, or None.
        positions: Name of the table of positions.
        patches: Name of the weights of the patch embedding.
        classifier: Name of the weights of the classifier.
        prefix: Number of positions before the grid.
    """
    patch = preset.patch_size
    wanted = None if image_size is None else (image_size[0] // patch, image_size[1] // patch)
    count = axis_length(tensors, positions, 1, 3)
    rows, columns = square_grid(count - prefix, positions, wanted)
    found = {"image_size": (rows * patch, columns * patch), "in_channels": axis_length(tensors, patches, 1, 4)}
    if classifier in tensors:
        found["num_classes"] = axis_length(tensors, classifier, 0, 2)
    return found


def _count_prefix_tokens(tensors: Tensors) -> int:
    """Return the number of positions before the grid."""
    count = axis_length(tensors, _POSITIONS, 1, 3)
    prefix = 1 + ("dist_token" in tensors)
    whole = math.isqrt(count) ** 2 == count and math.isqrt(count - prefix) ** 2 != count - prefix
    return 0 if whole else prefix


def position_rule(name: str, prefix: int) -> TensorRule:
    """Return the rule that makes our table, with the class token first, from one with ``prefix`` tokens first."""
    if prefix == 0:
        return TensorRule((name,), _with_empty_prefix, "zeros for the class token, which has no position")
    if prefix == 2:
        return TensorRule((name,), _without_second, "the position of the distillation token is dropped")
    return TensorRule((name,))


def _with_empty_prefix(table: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)


def _without_second(table: Tensor) -> Tensor:
    return torch.cat([table[:, :1], table[:, 2:]], dim=1)


def _list_rules(tensors: Tensors, config: ViTConfig) -> TensorRules:
    rules = {
        "class_token": TensorRule(("cls_token",)),
        "position.table": position_rule(_POSITIONS, _count_prefix_tokens(tensors)),
        **layer_rules("patch_embed.proj", "patch_embed.stem"),
        **layer_rules("norm", "norm"),
        **layer_rules("head", "classifier"),
    }
    for index in range(config.depth):
        block = f"blocks.{index}"
        rules |= layer_rules(f"{block}.norm1", f"{block}.attention_norm")
        rules |= layer_rules(f"{block}.attn.qkv", f"{block}.attention.qkv")
        rules |= layer_rules(f"{block}.attn.proj", f"{block}.attention.output")
        rules |= layer_rules(f"{block}.norm2", f"{block}.feed_forward_norm")
        rules |= layer_rules(f"{block}.mlp.fc1", f"{block}.feed_forward.expand")
        rules |= layer_rules(f"{block}.mlp.fc2", f"{block}.feed_forward.contract")
        if config.layer_scale is not None:
            rules[f"{block}.attention_scale"] = TensorRule((f"{block}.ls1.gamma",))
            rules[f"{block}.feed_forward_scale"] = TensorRule((f"{block}.ls2.gamma",))
    return rules


FAMILY = WeightFamily(
    name="timm_vit",
    title="ViT or DeiT of timm",
    network=ViTConfig,
    mark=r"blocks\.0\.attn\.qkv\.weight",
    read_fields=_read_fields,
    list_rules=_list_rules,
    unneeded={r"dist_token": WITHOUT_DISTILLATION, r"head_dist\.(weight|bias)": DISTILLED},
    notes=(HEADS,),
)
