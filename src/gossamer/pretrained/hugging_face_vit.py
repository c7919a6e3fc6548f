"""Vision Transformers with the names of Hugging Face's ``transformers``: ViT and DeiT, with and without a head.

Queries, keys and values are three layers, which become one. Releases before 5 call the layers
``encoder.layer.0.attention.attention.query``, later ones ``layers.0.attention.q_proj``; both are read. Names begin with
``vit.`` or ``deit.``, or with neither if the network was saved without a head.
"""

from __future__ import annotations

from typing import Any

from gossamer.nn.models.vit import ViTConfig
from gossamer.pretrained.family import (
    HEADS,
    TensorRule,
    TensorRules,
    Tensors,
    WeightFamily,
    joined_layer_rules,
    layer_rules,
)
from gossamer.pretrained.timm_vit import DISTILLED, WITHOUT_DISTILLATION, position_rule, vit_fields

_BODY = r"(?:vit\.|deit\.)?"
_PATCHES = "embeddings.patch_embeddings.projection"


def _body_prefix(tensors: Tensors) -> str:
    """Return the prefix of every name of the body."""
    return next(prefix for prefix in ("vit.", "deit.", "") if f"{prefix}{_PATCHES}.weight" in tensors)


def _classifier_name(tensors: Tensors) -> str:
    """Return the name of the classifier of the class token, which differs in DeiT with its teacher."""
    return "cls_classifier" if "cls_classifier.weight" in tensors else "classifier"


def _count_prefix_tokens(tensors: Tensors) -> int:
    return 1 + (f"{_body_prefix(tensors)}embeddings.distillation_token" in tensors)


def _read_fields(tensors: Tensors, preset: ViTConfig, image_size: tuple[int, int] | None) -> dict[str, Any]:
    body = _body_prefix(tensors)
    names = (f"{body}embeddings.position_embeddings", f"{body}{_PATCHES}.weight", f"{_classifier_name(tensors)}.weight")
    return vit_fields(tensors, preset, image_size, *names, _count_prefix_tokens(tensors))


def _list_rules(tensors: Tensors, config: ViTConfig) -> TensorRules:
    body = _body_prefix(tensors)
    rules = {
        "class_token": TensorRule((f"{body}embeddings.cls_token",)),
        "position.table": position_rule(f"{body}embeddings.position_embeddings", _count_prefix_tokens(tensors)),
        **layer_rules(f"{body}{_PATCHES}", "patch_embed.stem"),
        **layer_rules(f"{body}layernorm", "norm"),
        **layer_rules(_classifier_name(tensors), "classifier"),
    }
    later = f"{body}layers.0.layernorm_before.weight" in tensors
    for index in range(config.depth):
        ours = f"blocks.{index}"
        if later:
            theirs = f"{body}layers.{index}"
            attention, output = f"{theirs}.attention", f"{theirs}.attention.o_proj"
            parts = tuple(f"{attention}.{part}_proj" for part in "qkv")
            expand, contract = f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2"
        else:
            theirs = f"{body}encoder.layer.{index}"
            attention, output = f"{theirs}.attention.attention", f"{theirs}.attention.output.dense"
            parts = tuple(f"{attention}.{part}" for part in ("query", "key", "value"))
            expand, contract = f"{theirs}.intermediate.dense", f"{theirs}.output.dense"
        rules |= layer_rules(f"{theirs}.layernorm_before", f"{ours}.attention_norm")
        rules |= joined_layer_rules(parts, f"{ours}.attention.qkv")
        rules |= layer_rules(output, f"{ours}.attention.output")
        rules |= layer_rules(f"{theirs}.layernorm_after", f"{ours}.feed_forward_norm")
        rules |= layer_rules(expand, f"{ours}.feed_forward.expand")
        rules |= layer_rules(contract, f"{ours}.feed_forward.contract")
    return rules


FAMILY = WeightFamily(
    name="hugging_face_vit",
    title="ViT or DeiT of Hugging Face",
    network=ViTConfig,
    mark=_BODY + r"embeddings\.patch_embeddings\.projection\.weight",
    read_fields=_read_fields,
    list_rules=_list_rules,
    unneeded={
        _BODY + r"pooler\.dense\.(weight|bias)": "a layer after the class token that the classifier does not read",
        _BODY + r"embeddings\.mask_token": "a token that only training with hidden patches needs",
        r"(?:deit\.)?embeddings\.distillation_token": WITHOUT_DISTILLATION,
        r"distillation_classifier\.(weight|bias)": DISTILLED,
    },
    notes=(HEADS, "the library's default LayerNorm eps is 1e-12, ours is 1e-6, that of the weights' authors"),
)
