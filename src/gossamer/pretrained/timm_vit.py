"""Vision Transformers as timm names them, and DeiT, whose code grew from it.

ViT: Dosovitskiy et al., arXiv 2010.11929; DeiT: Touvron et al., arXiv 2012.12877; with a scale of the branches and no
position of the class token, as in DeiT III: arXiv 2204.07118. LayerNorm eps 1e-6 and an exact GELU, as ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gossamer.nn.models.vit import ViTConfig
from gossamer.pretrained.family import Family, Made, Rules, Tensors, layer_rules, size_of, square_grid

DISTILLED = "the readout of the distillation token"
WITHOUT_DISTILLATION = "ours has one token in front; results differ from the published ones until it is trained on"
HEADS = "a file of weights does not say how many heads there are; those of the preset are taken"
_POSITIONS = "pos_embed"


def _described(tensors: Tensors, preset: ViTConfig, image_size: tuple[int, int] | None) -> dict[str, Any]:
    found = vit_fields(tensors, preset, image_size, _POSITIONS, "patch_embed.proj.weight", "head.weight", _prefix)
    return found | ({"layer_scale": 1.0} if "blocks.0.ls1.gamma" in tensors else {})


def vit_fields(
    tensors: Tensors,
    preset: ViTConfig,
    image_size: tuple[int, int] | None,
    positions: str,
    patches: str,
    classifier: str,
    prefix_of: Any,
) -> dict[str, Any]:
    """Return the fields that the tensors of a Vision Transformer decide, given three of their names."""
    patch = preset.patch_size
    wanted = None if image_size is None else (image_size[0] // patch, image_size[1] // patch)
    count = size_of(tensors, positions, 1, 3)
    rows, columns = square_grid(count - prefix_of(tensors), positions, wanted)
    found = {"image_size": (rows * patch, columns * patch), "in_channels": size_of(tensors, patches, 1, 4)}
    if classifier in tensors:
        found["num_classes"] = size_of(tensors, classifier, 0, 2)
    return found


def _prefix(tensors: Tensors) -> int:
    """Return how many positions stand in front of the grid."""
    count = size_of(tensors, _POSITIONS, 1, 3)
    prefix = 1 + ("dist_token" in tensors)
    whole = math.isqrt(count) ** 2 == count and math.isqrt(count - prefix) ** 2 != count - prefix
    return 0 if whole else prefix


def position_rule(name: str, prefix: int) -> Made:
    """Return how our table, the class token in front of the grid, is made of one with ``prefix`` tokens in front."""
    if prefix == 0:
        return Made((name,), _with_empty_prefix, "zeros for the class token, which has no position")
    if prefix == 2:
        return Made((name,), _without_second, "the position of the distillation token left out")
    return Made((name,))


def _with_empty_prefix(table: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)


def _without_second(table: Tensor) -> Tensor:
    return torch.cat([table[:, :1], table[:, 2:]], dim=1)


def _rules(tensors: Tensors, config: ViTConfig) -> Rules:
    rules = {
        "class_token": Made(("cls_token",)),
        "position.table": position_rule(_POSITIONS, _prefix(tensors)),
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
            rules[f"{block}.attention_scale"] = Made((f"{block}.ls1.gamma",))
            rules[f"{block}.feed_forward_scale"] = Made((f"{block}.ls2.gamma",))
    return rules


FAMILY = Family(
    name="timm_vit",
    title="ViT or DeiT of timm",
    kind=ViTConfig,
    mark=r"blocks\.0\.attn\.qkv\.weight",
    described=_described,
    rules=_rules,
    unneeded={r"dist_token": WITHOUT_DISTILLATION, r"head_dist\.(weight|bias)": DISTILLED},
    notes=(HEADS,),
)
